//! `notify-test`: a marked test through every channel of a receiver.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;

use super::{runtime, say};
use crate::alert::{AlertName, Event, Reason, State};
use crate::app;
use crate::config::{Severity, Source};
use crate::delivery::{Accepted, Parcel, SendError, Subject, notice, targets};
use crate::notify::{self, Draft, Sender, alertmanager};
use crate::time;

pub(super) fn run(source: &Source, receiver: &str) -> anyhow::Result<ExitCode> {
    let config = Arc::new(source.load()?);
    let Some((name, receiver)) = config.receivers.get_key_value(receiver) else {
        let known: Vec<&str> = config.receivers.keys().map(|it| &**it).collect();
        bail!("no receiver is called {receiver}; the configuration has: {}", known.join(", "));
    };
    let Some((platform, credential)) = config.credentials().next() else {
        bail!("no credential is configured")
    };
    let now = time::now();
    let event = Event {
        name: AlertName::CredentialExpiring,
        reason: Reason::Test,
        severity: Severity::Info,
        step: None,
        at: now,
        starts_at: now,
        repeat: 0,
        generation: 0,
        previous_expiry: None,
    };
    let notice = notice(Subject::Credential(platform, credential, &State::default()), &event);
    let sender = Sender::new(config.clone())?;
    let origin = app::origin(&config);
    let mut code = ExitCode::SUCCESS;
    let mut answers = String::new();
    runtime()?.block_on(async {
        for target in targets(&config, [name]) {
            let Some(channel) = notify::channel(&config, &target) else { continue };
            let (id, end_id) = (notify::new_id(now), notify::new_id(now));
            let draft = Draft {
                id: &id,
                receiver: &target.receiver,
                recipient: &target.recipient,
                group_key: "",
                notices: std::slice::from_ref(&notice),
                origin: &origin,
                now,
            };
            let end = Draft { id: &end_id, ..draft };
            // What opened an incident closes it again, as soon as it was taken.
            let bodies = [
                Some(("", &id, notify::compose(channel, &draft)?)),
                notify::compose_end_of_test(channel, &end)?.map(|it| (" (closed)", &end_id, it)),
            ];
            for (what, id, body) in bodies.into_iter().flatten() {
                let id = id.clone();
                let (target, group) = (target.clone(), String::new());
                let parcel = Parcel { id, target, body, attempts: 1, created_at: now, group };
                let answer = sender.send(&parcel).await;
                let was_taken = answer.is_ok();
                note(&format!("{}{what}", parcel.target), answer, &mut answers, &mut code)?;
                if !was_taken {
                    break;
                }
            }
        }
        for it in &receiver.alertmanagers {
            let answered = alertmanager::drill(it, &notice, &origin, now).await?;
            for (replica, answer) in answered {
                let at = format!("{name}/alertmanager {replica}");
                note(&at, answer, &mut answers, &mut code)?;
            }
        }
        anyhow::Ok(())
    })?;
    say(&answers)?;
    Ok(code)
}

/// Writes down what was answered there; one failure is a failure of all.
fn note(
    at: &str,
    answer: Result<Accepted, SendError>,
    answers: &mut String,
    code: &mut ExitCode,
) -> std::fmt::Result {
    match answer {
        Ok(Accepted(answer)) => writeln!(answers, "ok      {at}: {answer}"),
        Err(error) => {
            *code = ExitCode::FAILURE;
            writeln!(answers, "FAILED  {at}: {error}")
        }
    }
}
