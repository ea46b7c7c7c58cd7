//! Faults of the world around the program: servers that stall, disks that fail, clocks that jump. No alert is lost, none
//! is told twice, and what is broken holds up nothing else.

mod clock;
mod dead;
mod disk;
mod tarpit;
