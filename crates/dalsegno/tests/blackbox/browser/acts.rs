//! Each action that the pages offer is done, and its receipt is shown where it was asked for.

use dalsegno_api::{Action, Client, Target};
use serde_json::{Map, Value};

use super::{FRONT, SLOW, Scene};

/// What the journal has of the newest action of this kind: how it was decided, and how it ended.
fn journaled(scene: &Scene, kind: &str) -> Vec<String> {
    let events = scene.project.events();
    let accepted =
        events.iter().rev().find(|event| event.kind == "action_accepted" && event.data["action_kind"] == kind);
    let Some(accepted) = accepted else { return Vec::new() };
    let id = &accepted.data["action_id"];
    let of_it = events.iter().filter(|event| event.data["action_id"] == *id && event.kind.starts_with("action_"));
    of_it.map(|event| event.kind.clone()).collect()
}

fn done(scene: &mut Scene, kind: &str, target: &str, fields: &[(&str, &str)]) {
    let told = scene.act(kind, target, fields);
    assert!(told.contains("completed"), "{kind}: {told}");
    assert_eq!(journaled(scene, kind), ["action_accepted", "action_completed"], "{kind}");
}

#[test]
fn what_runs_is_steered_paused_resumed_canceled_and_tried_again_from_its_page() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.open("/issues/DS-1");
    scene.browser.eval("window.same = true");
    done(&mut scene, "steer", "DS-1", &[("text", "mind the tests")]);
    done(&mut scene, "comment", "DS-1", &[("body", "seen by a person")]);
    assert_eq!(scene.browser.eval("document.activeElement.id"), "receipt", "who cannot see hears the receipt");
    done(&mut scene, "pause", "DS-1", &[]);
    assert_eq!(scene.project.status("DS-1").unwrap().0, "paused");
    done(&mut scene, "resume", "DS-1", &[]);
    done(&mut scene, "cancel", "DS-1", &[]);
    assert_eq!(scene.project.status("DS-1").unwrap().0, "canceled");
    done(&mut scene, "retry", "DS-1", &[]);
    done(&mut scene, "cancel", "DS-1", &[]);
    done(&mut scene, "rehydrate", "DS-1", &[]);
    done(&mut scene, "set_budget", "DS-1", &[("tokens", "5000000"), ("cost_usd", "2.50")]);
    done(&mut scene, "create_followup", "DS-1", &[("title", "What follows"), ("description", "More.")]);
    done(&mut scene, "cancel", "DS-1", &[]);
    done(&mut scene, "transition_issue", "DS-1", &[("state", "Icebox")]);
    assert_eq!(scene.browser.eval("window.same"), true, "all of it in place");
    let text = scene.project.issue_text("DS-1");
    assert!(text.contains("seen by a person") && text.contains("state: Icebox"), "{text}");
    scene.daemon.stop();
}

#[test]
fn a_question_is_answered_on_the_board_itself() {
    const ASKS: &str = "default:\n  - [ {ask: {text: \"Which colour?\"}}, {sh: \"echo ${answer} > colour.txt; git add -A; git commit -qm colour\"} ]\n";
    let Some(mut scene) = Scene::new(FRONT, ASKS, &["DS-1"]) else { return };
    scene.browser.wait_for("Which colour?");
    // A page that is brought up to date does not take away what somebody writes.
    scene.browser.eval("document.querySelector('#act-answer-DS-1 textarea').value = 'blue'");
    scene.project.issue("DS-2", "state: Todo\nblocked_by: [DS-1]");
    scene.browser.wait("the other issue", "document.querySelector('.column.quiet .tile')");
    assert_eq!(scene.browser.eval("document.querySelector('#act-answer-DS-1 textarea').value"), "blue");
    done(&mut scene, "answer", "DS-1", &[]);
    assert_eq!(scene.browser.eval("location.pathname"), "/");
    scene.browser.wait("handed off", "document.querySelector('.column.good .tile')");
    let branch = "dalsegno/DS-1:colour.txt";
    assert_eq!(scene.project.git(&scene.project.remote(), &["show", branch]), "blue");
    scene.daemon.stop();
}

#[test]
fn approvals_are_given_and_refused_and_parked_steps_settled_from_the_page() {
    const WORKS: &str = "default:\n  - [ {sh: \"echo work >> work.txt && git add -A && git commit -qm work\"} ]\n";
    let front = "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml, sandbox: command env}\n\
                 handoff: {state: Human Review, approval: required}\n";
    let Some(mut scene) = Scene::new(front, WORKS, &["DS-1", "DS-2"]) else { return };
    scene.browser.wait("both wait", "document.querySelectorAll('.column.needs .tile form').length === 4");
    done(&mut scene, "approve", "DS-1", &[]);
    done(&mut scene, "deny", "DS-2", &[("why", "not this week")]);
    scene.project.wait_for("DS-1", "handed_off");
    scene.project.wait_for("DS-2", "parked");
    scene.open("/issues/DS-2");
    scene.browser.wait_for("not this week");
    done(&mut scene, "release", "DS-2", &[]);
    scene.project.wait_for("DS-2", "waiting_approval");
    scene.daemon.stop();

    let front = "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml}\n\
                 handoff: {state: Human Review, comment: '{{ nothing.like.this }}'}\n";
    let Some(mut scene) = Scene::new(front, WORKS, &["DS-1"]) else { return };
    scene.project.wait_for("DS-1", "parked");
    scene.open("/issues/DS-1");
    scene.browser.wait("the diagram", "document.querySelector('.step.needs .name')?.textContent === 'comment'");
    done(&mut scene, "settle", "DS-1", &[("verb", "skip"), ("why", "told by mail")]);
    scene.project.wait_for("DS-1", "handed_off");
    scene.daemon.stop();
}

#[test]
fn the_daemon_is_drained_and_limited_from_its_page_and_what_is_refused_says_why() {
    let Some(mut scene) = Scene::new(FRONT, SLOW, &[]) else { return };
    scene.open("/daemon");
    done(&mut scene, "refresh", "daemon", &[]);
    done(&mut scene, "drain", "daemon", &[]);
    scene.project.issue("DS-1", "state: Todo");
    scene.project.wait_until("it is seen", || scene.project.status("DS-1").is_some());
    assert_eq!(scene.project.status("DS-1").unwrap().0, "idle");
    done(&mut scene, "undrain", "daemon", &[]);
    scene.project.wait_for("DS-1", "running");
    done(&mut scene, "set_budget", "daemon", &[("tokens", "1000000")]);
    scene.send("reload", "daemon", &[]);
    scene
        .browser
        .wait("why not", "document.querySelector('#act-reload-daemon [role=alert]')?.textContent.includes('Refused')");
    scene.daemon.stop();
}

#[test]
fn without_a_script_forms_do_the_same_and_lead_back_with_the_receipt() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.browser.scripts(false);
    scene.open("/");
    assert!(scene.browser.text().contains("DS-1"));
    scene.open("/issues/DS-1");
    scene.browser.eval("document.querySelector('#more-actions').open = true");
    scene.browser.eval("document.querySelector('#act-comment-DS-1 textarea').value = 'two\\nlines'");
    scene.browser.click("#act-comment-DS-1 button");
    scene.browser.wait("the receipt", "location.search.startsWith('?receipt=') && document.querySelector('#receipt')");
    scene.project.wait_until("the comment", || scene.project.issue_text("DS-1").contains("two\nlines"));
    scene.browser.click("#act-pause-DS-1 button");
    scene.project.wait_for("DS-1", "paused");
    scene.daemon.stop();
}

/// What is decided between the acceptance of an action and its end, without names. What agents and effects tell meanwhile comes when it comes.
fn story(scene: &Scene, kind: &str) -> Vec<Value> {
    let events = scene.project.events();
    let is = |event: &&dalsegno_engine::EventRow| event.kind == "action_accepted" && event.data["action_kind"] == kind;
    let accepted = events.iter().rev().find(is).unwrap();
    let end = |event: &&dalsegno_engine::EventRow| {
        event.data["action_id"] == accepted.data["action_id"]
            && matches!(&*event.kind, "action_completed" | "action_failed")
    };
    let end = events.iter().find(end).unwrap_or_else(|| panic!("{kind} has no end: {events:#?}")).seq;
    const DECIDED: [&str; 6] =
        ["action_accepted", "stop_asked", "run_ending", "run_ended", "issue_status", "action_completed"];
    let between =
        events.iter().filter(|event| (accepted.seq..=end).contains(&event.seq) && DECIDED.contains(&&*event.kind));
    between
        .map(|event| serde_json::json!([event.kind, event.data["from"], event.data["to"], event.data["action_kind"]]))
        .collect()
}

#[test]
fn the_same_action_by_page_command_line_and_api_leads_to_the_same_events() {
    let Some(mut scene) = Scene::slow() else { return };
    scene.open("/issues/DS-1");
    let mut stories = Vec::new();
    for by in ["page", "command line", "api"] {
        scene.project.wait_for("DS-1", "running");
        match by {
            "page" => done(&mut scene, "pause", "DS-1", &[]),
            "command line" => assert!(scene.project.output(&["pause", "DS-1"]).status.success()),
            _ => {
                let client = Client::discover(&scene.project.state_dir()).unwrap();
                let action = Action {
                    schema_version: 1,
                    action_kind: "pause".to_owned(),
                    target: Target { kind: "issue".to_owned(), id: "DS-1".to_owned() },
                    correlation_id: None,
                    idempotency_key: None,
                    on_duplicate: None,
                    payload: Map::new(),
                };
                let receipt = client.act(&action).unwrap();
                let ended = || client.action(&receipt.action_id).is_ok_and(|state| state.completion.is_some());
                scene.project.wait_until("its end", ended);
            }
        }
        stories.push(story(&scene, "pause"));
        assert!(scene.project.output(&["resume", "DS-1"]).status.success());
        let turns = || scene.project.events().iter().filter(|event| event.kind == "turn_started").count();
        scene.project.wait_until("the next turn", || turns() > stories.len());
    }
    assert_eq!(stories[0], stories[1]);
    assert_eq!(stories[1], stories[2]);
    scene.daemon.stop();
}
