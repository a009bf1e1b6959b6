//! The plan of a history: a small project, and how unkind the world is to it.

use std::collections::BTreeMap;

use dalsegno_core::{
    AgentKind, AgentPolicy, AutoApprove, BlockerRef, BreakerPolicy, BudgetPolicy, CommitMode, Effect, ForgePolicy,
    HandoffPolicy, HooksPolicy, Issue, IssueId, Limits, NotifyPolicy, Policy, Price, QuestionPolicy, QuotaPolicy,
    Receiver, Timestamp, Topic, TrackerPolicy, WorkspacePolicy,
};

use super::Knobs;
use super::deed::Deed;
use super::dice::Dice;

/// The label that some projects require.
pub(crate) const LABEL: &str = "agent";
/// States of the simulated tracker that are worked on.
pub(crate) const ACTIVE: [&str; 3] = ["Todo", "In Progress", "Rework"];
/// Models that agents ask.
pub(crate) const MODELS: [&str; 2] = ["m-1", "m-2"];
/// States that end an issue.
pub(crate) const TERMINAL: [&str; 2] = ["Done", "Canceled"];
/// States that are neither.
pub(crate) const RESTING: [&str; 2] = ["Backlog", "Human Review"];

/// How unkind the world is, each in times of a thousand unless it says otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    pub(crate) fail: u64,
    pub(crate) permanent: u64,
    pub(crate) doubt: u64,
    pub(crate) query_fail: u64,
    pub(crate) slow: u64,
    pub(crate) bad_turn: u64,
    pub(crate) crash: u64,
    /// The daemon likes to die around this kind of effect.
    pub(crate) target: Option<&'static str>,
    /// Crashes in all.
    pub(crate) crashes: u32,
    pub(crate) zombie: u64,
    pub(crate) clock: u64,
    /// Appends that the disk refuses.
    pub(crate) disk: u64,
    /// Times that something goes wrong with the disk, at most.
    pub(crate) disk_faults: u32,
    /// Files of checks that cannot be written.
    pub(crate) no_draft: u64,
    /// The step at which a backup is made, and that at which it is all that is left.
    pub(crate) restore: Option<(u64, u64)>,
    /// Edits by the human in all.
    pub(crate) edits: u32,
    /// What is handed over is looked at by the human, who goes on with it on the branch and sends it back.
    pub(crate) reviews: u64,
    /// Pushes on which a person builds at once.
    pub(crate) built_on: u64,
    /// Calls of a handoff that the tracker refuses for good, so that an operator has to say how it goes on.
    pub(crate) refuse: u64,
    /// Wishes of operators in all.
    pub(crate) wishes: u32,
    /// Changes of the tracker of which its service tells.
    pub(crate) webhooks: u64,
    /// Steps before the world turns kind.
    pub(crate) steps: u64,
}

/// A project and its world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) issues: Vec<Issue>,
    pub(crate) rates: Rates,
    /// Sessions know what they used in all, and say so when they are resumed.
    pub(crate) totals: bool,
    /// Things go astray outside the journal.
    pub(crate) astray: bool,
    /// The daemon likes to die while it keeps what checks said.
    pub(crate) cuts_keeping: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64, knobs: Knobs) -> Self {
        let mut dice = Dice::new(seed, 1);
        let mut policy = policy(&mut dice);
        let count = 1 + dice.below(6);
        let issues = (1..=count).map(|number| issue(number, &mut dice)).collect();
        let faults = u64::from(knobs.faults);
        let mut rates = Rates {
            fail: faults * dice.pick([0, 0, 20, 80, 200]),
            permanent: faults * dice.pick([0, 0, 0, 5, 30]),
            doubt: faults * dice.pick([0, 0, 20, 100]),
            query_fail: faults * dice.pick([0, 20, 150]),
            slow: if knobs.slow { dice.pick([0, 50, 300]) } else { 0 },
            bad_turn: faults * dice.pick([0, 50, 300]),
            crash: dice.pick([0, 4, 12, 30]),
            target: if dice.coin() { Some(dice.pick(targets())) } else { None },
            crashes: if knobs.crashes { u32::try_from(dice.below(9)).unwrap_or(0) } else { 0 },
            zombie: if knobs.zombies { dice.pick([0, 150]) } else { 0 },
            clock: if knobs.clock { dice.pick([0, 0, 5]) } else { 0 },
            disk: if knobs.disk { Dice::new(seed, 9).pick([0, 0, 0, 30]) } else { 0 },
            disk_faults: 2,
            no_draft: 0,
            restore: None,
            edits: if knobs.human { dice.pick([0, 0, 2, 6]) } else { 0 },
            reviews: if knobs.human { dice.pick([0, 0, 500, 900]) } else { 0 },
            refuse: 0,
            built_on: 0,
            wishes: if knobs.human { Dice::new(seed, 7).pick([0, 0, 1, 4]) } else { 0 },
            webhooks: if knobs.human { Dice::new(seed, 9).pick([0, 0, 500, 1_000]) } else { 0 },
            steps: dice.pick([60, 150, 400]),
        };
        if rates.target == Some(Effect::BringRemote.kind()) && knobs.human {
            // It takes a whole handoff and a second run before there is anything to aim at.
            (rates.reviews, rates.steps, rates.crash, rates.disk) = (1_000, 600, 0, 0);
        }
        if rates.target == Some("tell_saga") && knobs.human {
            // The same, with a tracker that refuses, and operators who see it.
            (rates.refuse, rates.steps, rates.crash) = (600, 600, 0);
        }
        if rates.target.is_some_and(|target| ORDERS.contains(&target)) && knobs.human {
            // Operators who want something, and agents that ask.
            (rates.wishes, rates.steps, rates.crash) = (12, 400, 0);
        }
        if rates.target.is_some_and(|target| Deed::KINDS.contains(&target)) {
            // A pull request, and enough that goes wrong before it is ready.
            policy.handoff.get_or_insert_default().forge = Some(forge());
            (rates.steps, rates.crash) = (400, 0);
            (rates.permanent, rates.refuse) = (faults * 100, faults * 200);
            rates.built_on = if knobs.human { 150 } else { 0 };
        }
        let mut fortune = Dice::new(seed, 10);
        if knobs.restore && rates.target != Some(Effect::BringRemote.kind()) && fortune.permille(80) {
            let made = 10 + fortune.below(rates.steps / 2);
            rates.restore = Some((made, made + 1 + fortune.below(rates.steps - made)));
        }
        let totals = dice.coin();
        if Dice::new(seed, 8).permille(300) {
            let slack = Receiver::Slack { address: "$SLACK".to_owned() };
            policy.notify = vec![
                NotifyPolicy { receiver: Receiver::Command { command: "say".to_owned() }, on: Topic::ALL.to_vec() },
                NotifyPolicy { receiver: slack, on: Topic::NEEDS_SOMEBODY.to_vec() },
            ];
        }
        let aimed = rates.target == Some("mend");
        let astray = knobs.faults && (aimed || Dice::new(seed, 10).permille(300));
        let cuts_keeping = Dice::new(seed, 13).permille(150);
        if cuts_keeping {
            rates.no_draft = faults * 300;
        }
        Self { policy, issues, rates, totals, astray, cuts_keeping }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn some_script(dice: &mut Dice, name: &str) -> Option<String> {
    dice.permille(400).then(|| name.to_owned())
}

fn forge() -> ForgePolicy {
    ForgePolicy { kind: "simulated".to_owned(), provider: serde_json::Map::new() }
}

/// What crashes may be aimed at.
/// What operators' actions do in the world.
const ORDERS: [&str; 5] = ["comment_issue", "transition_issue", "create_issue", "steer_turn", "answer_agent"];

fn targets() -> [&'static str; Effect::KINDS.len() + Deed::KINDS.len()] {
    let mut targets = [""; Effect::KINDS.len() + Deed::KINDS.len()];
    for (target, kind) in targets.iter_mut().zip(Effect::KINDS.into_iter().chain(Deed::KINDS)) {
        *target = kind;
    }
    targets
}

fn policy(dice: &mut Dice) -> Policy {
    let mut by_state = BTreeMap::new();
    if dice.permille(300) {
        by_state.insert("todo".to_owned(), 1);
    }
    if dice.permille(200) {
        by_state.insert("in progress".to_owned(), dice.pick([1, 2]));
    }
    let handoff = dice.permille(850).then(|| HandoffPolicy {
        checks: match dice.below(4) {
            0 => Vec::new(),
            1 | 2 => owned(&["./test"]),
            _ => owned(&["./lint", "./test"]),
        },
        check_timeout_ms: 900_000,
        commit: dice.pick([CommitMode::Auto, CommitMode::Require]),
        claim_state: dice.permille(500).then(|| "In Progress".to_owned()),
        state: match dice.below(5) {
            0 => None,
            1 => Some("Done".to_owned()),
            _ => Some("Human Review".to_owned()),
        },
        comment: dice.permille(700).then(|| "It is done.".to_owned()),
        forge: dice.permille(400).then(forge),
        ..HandoffPolicy::default()
    });
    Policy {
        project_dir: "/p".to_owned(),
        tracker: TrackerPolicy {
            required_labels: if dice.permille(300) { owned(&[LABEL]) } else { Vec::new() },
            active_states: owned(&ACTIVE),
            terminal_states: owned(&TERMINAL),
            ..TrackerPolicy::default()
        },
        poll_interval_ms: dice.pick([10_000, 10_000, 30_000]),
        workspace: WorkspacePolicy::of("/w", "."),
        hooks: HooksPolicy {
            after_create: some_script(dice, "after_create"),
            before_run: some_script(dice, "before_run"),
            after_run: some_script(dice, "after_run"),
            before_remove: some_script(dice, "before_remove"),
            ..HooksPolicy::default()
        },
        agent: AgentPolicy {
            command: Some("agent".to_owned()),
            max_concurrent_agents: dice.pick([1, 1, 2, 3]),
            max_turns: dice.pick([1, 2, 3, 8]),
            max_retry_backoff_ms: dice.pick([10_000, 60_000, 300_000]),
            max_concurrent_agents_by_state: by_state,
            stall_timeout_ms: dice.pick([0, 60_000, 300_000]),
            ..AgentPolicy::of(AgentKind::Acp)
        },
        handoff,
        budget: budget(dice),
        breaker: BreakerPolicy {
            same_failure: dice.pick([0, 1, 2, 3]),
            no_progress_turns: dice.pick([0, 1, 2, 5]),
            cooldown_ms: dice.pick([0, 60_000, 1_800_000]),
        },
        quota: QuotaPolicy { resume_at_reset: dice.permille(800) },
        auto_approve: AutoApprove::None,
        questions: QuestionPolicy { expire_ms: dice.pick([60_000, 3_600_000]) },
        notify: Vec::new(),
        webhooks: BTreeMap::new(),
        prompt_template: "Do it.".to_owned(),
    }
}

fn budget(dice: &mut Dice) -> BudgetPolicy {
    let price = Price { input_nanousd: 1_000, cached_input_nanousd: 100, output_nanousd: 5_000 };
    let costly = dice.permille(80);
    BudgetPolicy {
        issue_runs: dice.pick([1, 2, 4, 8]),
        issue: Limits {
            tokens: dice.pick([None, None, None, None, None, None, Some(4_000), Some(15_000)]),
            cost_nanousd: costly.then_some(9_000_000),
            turns: dice.pick([None, None, None, None, None, Some(1), Some(4)]),
            wall_clock_ms: dice.pick([None, None, None, Some(60_000), Some(1_200_000)]),
        },
        day: Limits {
            tokens: dice.pick([None, None, None, None, None, None, Some(10_000), Some(40_000)]),
            ..Limits::default()
        },
        prices: MODELS.iter().take(dice.pick([1, 2, 2])).map(|model| ((*model).to_owned(), price)).collect(),
    }
}

/// Issue number `number` as it stands when it is added.
pub(crate) fn issue(number: u64, dice: &mut Dice) -> Issue {
    let state = if dice.permille(850) { dice.pick(ACTIVE) } else { dice.pick(RESTING) };
    let mut labels = vec!["bug".to_owned()];
    if dice.permille(800) {
        labels.push(LABEL.to_owned());
    }
    let blocker = 1 + dice.below(number.max(1));
    let blocked = number > 1 && blocker < number && dice.permille(150);
    Issue {
        description: Some("words".to_owned()),
        priority: if dice.coin() { Some(dice.between(0, 6)) } else { None },
        labels,
        blocked_by: if blocked {
            vec![BlockerRef {
                id: Some(IssueId(format!("i{blocker}"))),
                identifier: Some(format!("DS-{blocker}")),
                state: None,
            }]
        } else {
            Vec::new()
        },
        created_at: dice.permille(800).then(|| Timestamp(dice.between(0, 1_000))),
        ..Issue::new(IssueId(format!("i{number}")), format!("DS-{number}"), format!("Issue {number}"), state)
    }
}
