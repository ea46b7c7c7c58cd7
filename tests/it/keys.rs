//! Files of keys on a disk that does not answer: named pipes, which nobody has written to yet.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ece_expiry_exporter::config::{Credential, CredentialKind, SecretSource};
use ece_expiry_exporter::observation::{Failure, FailureReason, Observation};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::sim::Expires;
use ece_expiry_exporter::time;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::coordinator::{Coordinator, answer};
use crate::probe::{DEADLINE, PATIENCE, credential, expires, platform};
use crate::world::{World, run};

async fn ece() -> Coordinator {
    let expires = expires("2027-02-21T09:15:30.123Z");
    Coordinator::http(move |_| {
        answer("200 OK", &["content-type: application/json", &expires], "{}")
    })
    .await
}

/// A named pipe. Whoever opens it to read hangs until it is written to, which dropping does at the latest: a
/// runtime waits for its threads.
struct Pipe(PathBuf);

impl Pipe {
    fn write(&self, text: &[u8]) {
        // Open for both, it does not wait for who reads.
        let mut file = OpenOptions::new().read(true).write(true).open(&self.0).unwrap();
        file.write_all(text).unwrap();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.write(b"none");
    }
}

/// A credential whose file hangs.
fn hanging(dir: &TempDir, name: &str) -> (Credential, Pipe) {
    let path = dir.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let kind = CredentialKind::ApiKey(SecretSource::File(path.clone()));
    (Credential { kind, ..credential(dir) }, Pipe(path))
}

fn start(prober: &Arc<Prober>, credential: &Credential) -> JoinHandle<Observation> {
    let (prober, credential) = (prober.clone(), credential.clone());
    tokio::spawn(async move { prober.probe(&credential, time::now).await })
}

#[tokio::test]
async fn a_file_that_hangs_does_not_keep_the_others_from_being_read() {
    let dir = TempDir::new().unwrap();
    let ece = ece().await;
    let prober = Arc::new(Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap());
    let healthy = credential(&dir);
    let (first, first_pipe) = hanging(&dir, "first");
    let (second, second_pipe) = hanging(&dir, "second");
    let waiting = [start(&prober, &first), start(&prober, &second)];
    tokio::task::yield_now().await;

    for _ in 0..3 {
        let observation = prober.probe(&healthy, time::now).await;
        assert!(observation.result.is_ok(), "{observation:?}");
    }
    assert!(waiting.iter().all(|it| !it.is_finished()));

    let key = fs::read(dir.path().join("key")).unwrap();
    first_pipe.write(&key);
    second_pipe.write(&key);
    for probe in waiting {
        let observation = probe.await.unwrap();
        assert!(observation.result.is_ok(), "{observation:?}");
    }
}

#[tokio::test]
async fn a_dead_disk_with_many_files_does_not_use_up_the_deadline_of_the_others() {
    const MANY: usize = 60;
    let dir = TempDir::new().unwrap();
    let ece = ece().await;
    let prober = Arc::new(Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap());
    let healthy = credential(&dir);
    let files: Vec<_> = (0..MANY).map(|it| hanging(&dir, &format!("hanging-{it}"))).collect();
    let waiting: Vec<_> = files.iter().map(|(credential, _)| start(&prober, credential)).collect();
    tokio::task::yield_now().await;
    let observation = prober.probe(&healthy, time::now).await;
    assert!(observation.result.is_ok(), "{observation:?}");
    // 200 ms for the first, 10 ms for each other; six times that on a slow machine.
    assert!(observation.took < Duration::from_secs(5), "{:?}", observation.took);
    drop(files);
    for probe in waiting {
        probe.await.unwrap();
    }
}

#[test]
fn a_file_that_hangs_holds_no_thread_of_the_runtime_and_is_read_once_for_all() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = TempDir::new().unwrap();
        let ece = ece().await;
        let prober = Arc::new(Prober::new(&platform(&[ece.http_url()]), DEADLINE).unwrap());
        let (hanging, pipe) = hanging(&dir, "hanging");
        for _ in 0..3 {
            let observation = prober.probe(&hanging, time::now).await;
            let Err(Failure { reason, message, .. }) = observation.result else {
                panic!("{observation:?}")
            };
            assert_eq!(reason, FailureReason::SecretUnreadable);
            assert!(message.contains("was not read from file"), "{message}");
            assert!(message.contains("check the disk"), "{message}");
        }
        // The threads of the runtime are free.
        let healthy = credential(&dir);
        let patient = Arc::new(Prober::new(&platform(&[ece.http_url()]), PATIENCE).unwrap());
        let observation = patient.probe(&healthy, time::now).await;
        assert!(observation.result.is_ok(), "{observation:?}");

        // Two credentials of one file, which is read once.
        let both = [start(&prober, &hanging), start(&prober, &hanging)];
        tokio::task::yield_now().await;
        pipe.write(&fs::read(dir.path().join("key")).unwrap());
        for probe in both {
            let observation = probe.await.unwrap();
            assert!(observation.result.is_ok(), "{observation:?}");
        }
    });
}

#[tokio::test]
async fn a_configuration_with_files_that_hang_is_refused_and_names_them() {
    let mut world = World::new().await;
    world.add("one", Expires::Never);
    world.add("two", Expires::Never);
    let config = world.write_config();
    let mut pipes = Vec::new();
    for name in ["key-one", "key-two"] {
        let path = world.path(name);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        pipes.push(path);
    }
    let (code, said, _) = run(&["check-config", config.to_str().unwrap()], world.dir.path());
    assert_eq!(code, 1, "{said}");
    for pipe in pipes {
        let told = format!("`{}` does not answer (check the disk", pipe.display());
        assert!(said.contains(&told), "{said}");
    }
}
