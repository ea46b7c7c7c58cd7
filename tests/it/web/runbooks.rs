//! What the pages about alerts show, and that their links lead somewhere.

use std::collections::BTreeSet;

use super::{HTML, PLAIN, Server, some};

#[tokio::test]
async fn every_runbook_is_a_page_like_the_others() {
    let server = Server::start(some()).await;
    let page = server.get("/").await;
    let index = server.get("/runbooks/").await;
    let mut names = 0;
    for link in links(index.text()).iter().filter(|it| it.starts_with("ECE")) {
        let runbook = server.get(&format!("/runbooks/{link}")).await;
        assert_eq!((runbook.status, runbook.header("content-type")), (200, HTML), "{link}");
        for header in ["content-security-policy", "referrer-policy", "x-content-type-options"] {
            assert_eq!(runbook.header(header), page.header(header), "{link}: {header}");
        }
        let name = link.trim_end_matches(".md");
        let text = runbook.text();
        assert!(text.contains(&format!("<h1>{name}</h1>\n<h2>Meaning</h2>\n<p>")), "{text}");
        let head = text.split("<main").next().unwrap();
        assert!(head.contains("<a href=\"../\">All credentials</a>"), "a way back, at the top");
        assert!(text.contains("<title>ECE") && text.contains("<style>:root"), "{text}");
        assert_eq!(server.get(&format!("/runbooks/{name}")).await.text(), text, "both spellings");
        names += 1;
    }
    assert_eq!(names, 22);
}

#[tokio::test]
async fn links_of_runbooks_lead_to_pages() {
    let server = Server::start(some()).await;
    let mut seen = BTreeSet::from(["/runbooks/".to_owned()]);
    let mut waiting: Vec<String> = seen.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let page = server.get(&path).await;
        assert_eq!((page.status, page.header("content-type")), (200, HTML), "{path}");
        for link in links(page.text()) {
            let target = match link.as_str() {
                "../" => continue,
                "./" => "/runbooks/".to_owned(),
                name => format!("/runbooks/{name}"),
            };
            if seen.insert(target.clone()) {
                waiting.push(target);
            }
        }
    }
    assert_eq!(seen.len(), 23);
}

#[tokio::test]
async fn the_page_leads_to_the_runbooks() {
    let server = Server::start(some()).await;
    let page = server.get("/").await;
    assert!(page.text().contains("<a href=\"runbooks/\">Runbooks</a>"));
    let firing = "<a href=\"runbooks/ECECredentialExpired\">ECECredentialExpired</a>";
    assert!(page.text().contains(firing), "a firing alert links to its own");
    let folder = server.get("/runbooks").await;
    assert_eq!((folder.status, folder.header("location")), (308, "runbooks/"));
}

#[tokio::test]
async fn a_runbook_that_is_not_there_is_answered_with_where_they_are() {
    let server = Server::start(some()).await;
    for path in ["/runbooks/ECENothing", "/runbooks/README", "/runbooks/..%2FREADME"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, PLAIN), "{path}");
        assert!(answer.text().contains("/runbooks/ lists them all"), "{}", answer.text());
    }
    assert_eq!(server.get("/runbooks/a/b").await.status, 404);
}

/// Where the links of a page lead, the icon left out.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("<a href=\"").skip(1);
    targets.map(|it| it.split('"').next().unwrap().to_owned()).collect()
}
