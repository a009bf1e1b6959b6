//! `GET /api/v1/readiness`: the surfaces, and what is left of the plan that brings them back in line.

use axum::extract::State;
use axum::{Extension, Json};
use dalsegno_api as api;
use dalsegno_core::{Descriptor, DiskUse, Failure, Readiness, Step, Surface, WorkspaceUse};

use crate::app::App;
use crate::convert;
use crate::guard::Caller;
use crate::params::Params;
use crate::problem::Problem;

pub(crate) async fn readiness(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<api::Readiness>, Problem> {
    params.done()?;
    let Some(found) = app.control.readiness() else {
        let ending = Failure::retryable(api::code::ENGINE_UNAVAILABLE, "the daemon is ending");
        return Err(Problem::engine(ending.hint("start it again, and ask again")));
    };
    let takes_work = found.takes_work();
    let Readiness { state, reason, steps, remaining, looked_at, disk } = found;
    Ok(Json(api::Readiness {
        status: state.as_str().to_owned(),
        reason: reason.to_owned(),
        takes_work,
        remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
        plan: steps.into_iter().map(|step| plan_step(step, caller)).collect(),
        surfaces: Surface::ALL.into_iter().map(surface).collect(),
        looked_at: looked_at.map(convert::time),
        disk: disk.map(|disk| disk_use(disk, caller)),
    }))
}

fn plan_step(step: Step, caller: Caller) -> api::PlanStep {
    let Step { surface, action, reason, member, scope, detail } = step;
    api::PlanStep {
        surface: surface.as_str().to_owned(),
        action: action.as_str().to_owned(),
        reason: reason.to_owned(),
        // Where a directory is tells of the machine.
        member: if caller.reads() || !member.starts_with('/') {
            member
        } else {
            member.rsplit('/').next().unwrap_or_default().to_owned()
        },
        scope: scope.as_str().to_owned(),
        detail: Some(detail).filter(|detail| caller.reads() && !detail.is_empty()),
    }
}

fn disk_use(disk: DiskUse, caller: Caller) -> api::DiskUse {
    let DiskUse { free, state, used, limit, workspaces } = disk;
    let workspaces = workspaces.into_iter().map(|WorkspaceUse { path, issue, bytes }| api::WorkspaceUse {
        issue,
        path: Some(path).filter(|_| caller.reads()),
        bytes,
    });
    api::DiskUse {
        free_bytes: free,
        state_bytes: state,
        used_bytes: used,
        limit_bytes: limit,
        workspaces: workspaces.collect(),
    }
}

fn surface(surface: Surface) -> api::Surface {
    let Descriptor { scope, authority, criticality, schema, strategy } = surface.descriptor();
    api::Surface {
        name: surface.as_str().to_owned(),
        scope: scope.as_str().to_owned(),
        authority: authority.to_owned(),
        criticality: criticality.as_str().to_owned(),
        schema: schema.map(|(oldest, newest)| api::SchemaRange { oldest, newest }),
        strategy: strategy.to_owned(),
    }
}
