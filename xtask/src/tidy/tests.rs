use super::*;

fn rules_broken(path: &str, text: &str) -> Vec<&'static str> {
    let source = Source { path: path.to_owned(), text: text.to_owned() };
    check(&source, &glossary()).into_iter().filter(|finding| !finding.note).map(|finding| finding.rule).collect()
}

const NONE: [&str; 0] = [];

/// The words as the tree has them.
fn glossary() -> Glossary {
    let text = include_str!("../../../docs/glossary.md").to_owned();
    Glossary::of(&[Source { path: "docs/glossary.md".to_owned(), text }])
}

#[test]
fn a_long_file_needs_a_reason_and_its_tests_do_not_count() {
    let long = "// x\n".repeat(801);
    assert_eq!(rules_broken("crates/core/src/a.rs", &long), ["long"]);
    assert_eq!(rules_broken("crates/core/src/a.rs", &format!("// tidy: long because one table\n{long}")), NONE);
    assert_eq!(rules_broken("crates/core/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n")), NONE);
    assert_eq!(rules_broken("crates/core/tests/a.rs", &long), NONE);
}

#[test]
fn our_own_names_use_our_words() {
    assert_eq!(rules_broken("crates/engine/src/a.rs", "let was_cancelled = 1;\n"), ["words"]);
    assert_eq!(rules_broken("crates/engine/src/a.rs", "enum X { Cancelled }\n"), ["words"]);
    assert_eq!(rules_broken("crates/engine/src/a.rs", "struct TicketId;\n"), ["words"]);
    assert_eq!(rules_broken("README.md", "open a ticket\n"), ["words"]);
    assert_eq!(rules_broken("docs/glossary.md", "| issue | | ticket |\n"), NONE);
}

#[test]
fn words_that_the_glossary_has_under_not_are_found_unless_they_name_something_else_too() {
    for (text, instead) in [
        ("a try number of two", "attempt"),
        ("the clean-up and the cleanup of it", "sweep"),
        ("let rollback = 1;", "undo"),
        ("the commit point", "pivot"),
        ("a verification of it", "probe"),
    ] {
        let source = Source { path: "crates/engine/src/a.rs".to_owned(), text: format!("{text}\n") };
        let found = check(&source, &glossary());
        let told: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert!(told.len() == 1 && told[0].ends_with(&format!("`{instead}`")), "{text}: {told:?}");
    }
    assert_eq!(rules_broken("crates/engine/src/a.rs", "a message of the log, a command, a key, a cache\n"), NONE);
    assert_eq!(rules_broken("crates/store/src/a.rs", "db.execute_batch(\"ROLLBACK\")\n"), NONE);
    let listed = Glossary::of(&[Source {
        path: "docs/glossary.md".to_owned(),
        text: "| word | meaning | not |\n|---|---|---|\n| thing | a thing | gizmo (that is one kind), widget |\n"
            .to_owned(),
    }]);
    let source = Source { path: "docs/a.md".to_owned(), text: "a Widget\n".to_owned() };
    assert_eq!(check(&source, &listed)[0].message, "`widget` is not our word: `thing`");
}

#[test]
fn words_of_others_are_theirs() {
    assert_eq!(rules_broken("crates/engine/src/a.rs", "cancel.cancelled().await;\n"), NONE);
    assert_eq!(rules_broken("crates/engine/src/a.rs", "if error.is_cancelled() {}\n"), NONE);
    assert_eq!(rules_broken("crates/adapters/src/a.rs", "StopReason::Cancelled => x,\n"), NONE);
    let excused = "// tidy: words because the protocol spells it so\nlet cancelled = 1;\n";
    assert_eq!(rules_broken("crates/adapters/src/a.rs", excused), NONE);
}

#[test]
fn an_excuse_needs_a_reason_and_holds_for_one_line() {
    assert_eq!(
        rules_broken("crates/x/src/a.rs", "let cancelled = 1; // tidy: words because \n"),
        ["words", "space"].into_iter().rev().collect::<Vec<_>>()
    );
    let far = "// tidy: words because of them\n\nlet cancelled = 1;\n";
    assert_eq!(rules_broken("crates/x/src/a.rs", far), ["words"]);
}

#[test]
fn names_that_say_nothing_are_found() {
    assert_eq!(rules_broken("crates/x/src/a.rs", "pub(crate) struct SessionManager;\n"), ["names"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "mod utils;\n"), ["names"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "trait GitHelper {}\n"), ["names"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "struct Eventual;\nuse tokio_util::sync;\n"), NONE);
}

#[test]
fn the_core_is_pure_outside_its_tests() {
    for impure in ["use std::time::Instant;", "std::env::var(\"X\");", "let m = HashMap::new();", "async fn f() {}"] {
        assert_eq!(rules_broken("crates/core/src/a.rs", &format!("{impure}\n")), ["pure"], "{impure}");
        assert_eq!(rules_broken("crates/engine/src/a.rs", &format!("{impure}\n")), NONE, "{impure}");
        assert_eq!(rules_broken("crates/core/src/a.rs", &format!("// {impure}\n")), NONE, "{impure}");
    }
    assert_eq!(rules_broken("crates/core/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }\n"), NONE);
    assert_eq!(rules_broken("crates/durable/src/a.rs", "use std::time::Duration;\n"), NONE);
    assert_eq!(rules_broken("crates/durable/src/a.rs", "SystemTime::now();\n"), ["pure"]);
}

#[test]
fn sql_is_for_the_store_and_output_for_handles() {
    assert_eq!(rules_broken("crates/gateway/src/a.rs", "let q = \"SELECT x FROM y\";\n"), ["sql"]);
    assert_eq!(rules_broken("crates/store/src/a.rs", "let q = \"SELECT x FROM y\";\n"), NONE);
    assert_eq!(rules_broken("crates/dalsegno/src/a.rs", "println!(\"x\");\n"), ["print"]);
    assert_eq!(rules_broken("crates/dalsegno/src/a.rs", "eprintln!(\"x\");\n"), ["print"]);
}

#[test]
fn queues_have_limits() {
    assert_eq!(rules_broken("crates/engine/src/a.rs", "let (a, b) = mpsc::unbounded_channel();\n"), ["bounded"]);
}

#[test]
fn a_silenced_lint_says_why() {
    assert_eq!(rules_broken("crates/x/src/a.rs", "#[allow(dead_code)]\nfn f() {}\n"), ["reason"]);
    assert_eq!(rules_broken("crates/x/tests/a.rs", "#![allow(clippy::unwrap_used)]\n"), ["reason"]);
    let long = "#[allow(\n    clippy::unwrap_used,\n    reason = \"tests\"\n)]\nfn f() {}\n";
    assert_eq!(rules_broken("crates/x/src/a.rs", long), NONE);
}

#[test]
fn leftovers_and_unfinished_merges_are_found() {
    assert_eq!(rules_broken("crates/x/src/a.rs", "let p = \"/home/me/x\";\n"), ["leftover"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "#[cfg(test)]\nmod tests { /* /home/me */ }\n"), NONE);
    assert_eq!(rules_broken("docs/a.md", "<<<<<<< ours\n"), ["conflict"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "fn f() {}"), ["newline"]);
    assert_eq!(rules_broken("crates/x/src/a.rs", "fn f() {} \n"), ["space"]);
}
