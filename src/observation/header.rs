//! The forms of the header `X-Elastic-Api-Key-Expiration`. Pure.
