//! Bullets of the Symphony specification about trackers (§17.3) that belong to the local tracker alone.

use std::fs;
use std::sync::Arc;

use dalsegno_adapters::tracker::LocalTracker;
use dalsegno_adapters::workflow::{Environment, WorkflowFile};
use dalsegno_engine::{Tracker as _, Workflow as _};

#[tokio::test]
async fn symphony_17_3_the_provider_s_own_name_of_an_issue_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let workflow = dir.path().join("WORKFLOW.md");
    fs::write(&workflow, "---\ntracker: {kind: local}\nagent: {kind: acp, command: a}\n---\n").unwrap();
    fs::create_dir(dir.path().join("issues")).unwrap();
    fs::write(dir.path().join("issues/DS-7.md"), "---\nid: i7\ntitle: A title\nstate: Todo\n---\n").unwrap();
    let environment: Environment = Arc::new(|name| (name == "HOME").then(|| "/home/ada".to_owned()));
    let policy = WorkflowFile::with_environment(workflow, environment.clone()).load().unwrap();
    let tracker = LocalTracker::open(&policy, &environment).unwrap();
    let issues = tracker.fetch_issues_by_states(&["Todo".to_owned()]).await.unwrap();
    let [issue] = issues.as_slice() else { panic!("{} issues", issues.len()) };
    assert_eq!((issue.id.as_str(), issue.identifier.as_str()), ("i7", "DS-7"));
    assert_eq!(issue.native_ref, Some(serde_json::json!({"file": "DS-7.md"})));
}
