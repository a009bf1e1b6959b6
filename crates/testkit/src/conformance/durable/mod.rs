//! What every durable host must do: the contract of effects and waits (`dalsegno_durable`).
//!
//! Whoever writes a [`DurableStore`] gives a [`Stores`], which says how it is opened; a [`StoreFixture`] makes of it hosts with a clock
//! and faults that the cases control. Whoever writes a whole [`EffectHost`] gives a [`HostFixture`]. Either way,
//! [`durable_conformance!`](crate::durable_conformance) in the tests makes each case a test of its own name.
//!
//! ```
//! mod memory {
//!     use dalsegno_durable::{MemoryStore, key::Secret};
//!     use dalsegno_testkit::conformance::durable::StoreFixture;
//!
//!     dalsegno_testkit::durable_conformance!(StoreFixture::new(MemoryStore::new(Secret::new([7; 32]))).await);
//! }
//! ```
//!
//! [`DurableStore`]: dalsegno_durable::DurableStore
//! [`EffectHost`]: dalsegno_durable::EffectHost
#![allow(clippy::unwrap_used, clippy::panic, reason = "a conformance suite fails by panicking")]

mod fixture;
mod scene;

pub mod concurrency;
pub mod crash;
pub mod durable_steps;
pub mod effect_host;
pub mod in_doubt;
pub mod leases;
pub mod replay;
pub mod retention;
pub mod vectors;
pub mod waits;

pub use fixture::{HostFixture, StoreFixture, Stores};
pub use scene::within;

/// The cases by group; hands them to the macro that is named.
#[doc(hidden)]
#[macro_export]
macro_rules! durable_cases {
    ([$($then:tt)*] $make:tt) => {
        $($then)*! { $make effect_host:
            scope_metadata_kept,
            missing_ids_refused,
            static_scope_keeps_metadata,
            scope_is_opened_once,
            durability_is_told,
            intent_is_durable_before_the_executor_runs,
            outcome_is_durable_before_it_is_told,
            every_kind_is_executed_and_recorded,
            external_must_declare_its_policy,
            effect_of_another_scope_refused,
            executor_is_told_its_call,
            idempotency_key_is_of_scope_and_replay_key,
            turns_of_two_sessions_never_meet,
            store_error_before_the_intent_is_no_failure,
            store_error_after_the_intent_is_no_failure,
            store_error_before_the_outcome_is_no_failure,
            store_error_after_the_outcome_is_no_failure,
        }
        $($then)*! { $make waits:
            key_stable,
            early_resolution,
            resolution_wakes_the_waiter,
            duplicate_resolution,
            cancel_terminal,
            timeout_terminal,
            deadline_that_is_over_answers_at_once,
            first_deadline_stays,
            late_resolve_after_cancel,
            session_revoked,
            session_cancel_resolves_outstanding_and_keeps_the_session_usable,
            session_deleted,
            tampered_in_each_field,
            foreign_key_refused,
            unknown_wait_leaves_no_row,
            dropped_waiter_leaves_nothing,
            key_bytes_survive_reopen,
            resolution_survives_reopen,
            revocation_survives_reopen,
            deadline_survives_reopen,
            resolve_from_another_instance,
            cancel_from_another_instance,
            what_was_seen_is_replayed,
            awaited_event_is_replayed,
            awaited_event_outlives_many_restarts,
            store_error_is_no_end_of_a_wait,
        }
        $($then)*! { $make durable_steps:
            step_success,
            step_error,
            step_input_in_hash,
            step_of_another_type_is_unreadable,
            sleep_is_due_once,
            sleep_resumes_the_rest,
            retries_are_recorded,
            retry_pause_survives_reopen,
            retries_exhausted_are_a_failure,
            output_too_large_is_a_failure,
        }
        $($then)*! { $make in_doubt:
            in_doubt_by_a_panic_of_the_closure,
            in_doubt_rerun,
            in_doubt_same_key,
            in_doubt_probe_applied,
            in_doubt_probe_not_applied,
            in_doubt_probe_inconclusive,
            in_doubt_probe_is_asked_again,
            in_doubt_park,
            in_doubt_settled_as_applied,
            in_doubt_settled_as_not_applied,
            in_doubt_of_each_policy_by_a_crash_between,
            doubts_are_bounded,
            doubts_take_no_retries,
            settled_doubts_take_no_retries,
        }
        $($then)*! { $make replay:
            replay_of_success_calls_nothing,
            replay_of_error_calls_nothing,
            replay_touches_no_store,
            replay_in_another_order,
            replay_with_another_cause,
            mismatch_diagnostics,
            mismatch_with_an_intent,
            mismatch_with_large_content,
            ten_thousand_effects_reopen_in_linear_time,
        }
        $($then)*! { $make concurrency:
            single_flight,
            single_flight_of_a_dropped_runner,
            single_flight_of_a_mismatch,
            concurrent_replay_deterministic,
            first_writer_wins_across_instances,
            wake_up_never_lost,
            wake_up_is_not_lost_while_registering,
            wake_up_is_not_lost_in_a_gap,
            wake_up_in_another_runtime,
            parked_waits_do_no_store_calls,
            many_waiters_of_one_wait,
            outcome_beside_a_read_is_kept,
            failure_beside_a_read_is_looked_into,
        }
        $($then)*! { $make retention:
            ended_scope_tells_outcomes_and_refuses_the_rest,
            ended_scope_survives_reopen,
            retention_prunes,
            retention_is_counted_from_the_end,
            retention_never_prunes_live,
            ending_prunes_by_itself,
            late_resolve_after_the_end,
            waiter_of_an_ended_scope,
            pruned_in_pages,
        }
        $($then)*! { $make leases:
            second_owner_refused,
            lease_is_free_when_its_owner_is_gone,
            take_over_raises_the_epoch,
            lease_stolen_mid_effect_late_outcome_refused,
            late_intent_refused,
            late_retry_refused,
            late_settlement_refused,
            late_sleep_refused,
            late_end_refused,
            lost_scope_cancels_its_executors,
            ended_under_another_owner,
        }
    };
}

/// A function for a group, which runs each of its cases on a fixture of its own.
macro_rules! group {
    (() $group:ident: $($case:ident),+ $(,)?) => {
        #[doc = concat!("Runs every case of [`", stringify!($group), "`](mod@", stringify!($group), "), each on a fixture of its own.")]
        ///
        /// # Panics
        /// When a case fails.
        pub async fn $group<F: HostFixture>(make: impl AsyncFn() -> F) {
            $( within(concat!(stringify!($group), "::", stringify!($case)), $group::$case(&make().await)).await; )+
        }
    };
}

durable_cases!([group]());

/// Tests of one group.
#[doc(hidden)]
#[macro_export]
macro_rules! durable_tests {
    (($make:expr) $group:ident: $($case:ident),+ $(,)?) => {
        mod $group {
            #[allow(unused_imports, reason = "the expression may need nothing of it")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture = $make;
                    let case = $crate::conformance::durable::$group::$case(&fixture);
                    $crate::conformance::durable::within(stringify!($case), case).await;
                }
            )+
        }
    };
}

/// Makes every case a test: `durable_conformance!(async_expression_that_makes_a_fixture)`. Each case gets a fixture of its own, on
/// an empty database.
#[macro_export]
macro_rules! durable_conformance {
    ($make:expr) => {
        $crate::durable_cases!([$crate::durable_tests]($make));
    };
}
