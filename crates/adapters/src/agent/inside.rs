//! What lies inside a workspace, and workspaces inside their root.

use std::path::{Component, Path};

use dalsegno_engine::Launch;
use dalsegno_engine::core::Failure;

/// The workspace that the agent is started in: a plain directory below the root.
pub(super) async fn workspace(request: &Launch) -> Result<String, Failure> {
    let Some(workspace) = request.context.request.workspace.as_ref().map(|workspace| workspace.path.clone()) else {
        return Err(Failure::permanent("agent_start_failed", "the run has no workspace to start its agent in"));
    };
    below_root(&request.context.request.policy.workspace.root, &workspace).await?;
    Ok(workspace)
}

/// A plain directory below the root, symbolic links resolved. Looked at before each start: a resumed run does not make
/// its workspace again, and its agent could have put a link there.
async fn below_root(root: &str, workspace: &str) -> Result<(), Failure> {
    let there = tokio::fs::symlink_metadata(workspace).await.is_ok_and(|meta| meta.is_dir() || meta.is_symlink());
    if !there {
        return Err(Failure::retryable("agent_start_failed", format!("the workspace {workspace} is not there"))
            .hint("it is made anew by the next run"));
    }
    let resolved = (tokio::fs::canonicalize(root).await, tokio::fs::canonicalize(workspace).await);
    let plain = tokio::fs::symlink_metadata(workspace).await.is_ok_and(|meta| meta.is_dir());
    match resolved {
        (Ok(root), Ok(path)) if plain && path != root && path.starts_with(&root) => Ok(()),
        _ => Err(Failure::permanent(
            "workspace_outside_root",
            format!("{workspace} is not a plain directory below the workspace root {root}"),
        )
        .hint("remove the symbolic link, or set workspace.root to where the workspaces are")),
    }
}

/// Whether `path` lies in `root`, symbolic links resolved as far as the path is there.
pub(super) fn contained(root: &Path, path: &Path) -> bool {
    let Ok(root) = root.canonicalize() else { return false };
    let mut there = root.join(path);
    let mut missing = Vec::new();
    loop {
        if let Ok(resolved) = there.canonicalize() {
            there = resolved;
            break;
        }
        // A link that leads nowhere yet may lead anywhere when it is written through.
        if there.symlink_metadata().is_ok() {
            return false;
        }
        match there.components().next_back() {
            Some(Component::Normal(name)) => missing.push(name.to_owned()),
            // `..` behind a directory that is not there cannot be resolved.
            Some(Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_)) | None => {
                return false;
            }
        }
        if !there.pop() {
            return false;
        }
    }
    there.extend(missing.iter().rev());
    there.starts_with(&root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[test]
    fn only_what_resolves_into_the_workspace_is_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir_all(root.join("src")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("later"), root.join("dangling")).unwrap();

        for inside in ["src", "src/new/file.rs", "a.txt", "src/../b.txt"] {
            assert!(contained(&root, &root.join(inside)), "{inside}");
            assert!(contained(&root, Path::new(inside)), "{inside}");
        }
        for outside in ["../secret", "out/secret", "out/new", "dangling", "no/../../secret", "/etc/passwd"] {
            assert!(!contained(&root, &root.join(outside)), "{outside}");
        }
    }

    #[tokio::test]
    async fn an_agent_starts_in_a_plain_directory_below_the_root_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for made in [&root, &outside, &root.join("DS-1")] {
            std::fs::create_dir(made).unwrap();
        }
        std::os::unix::fs::symlink(&outside, root.join("DS-2")).unwrap();
        std::fs::write(root.join("DS-3"), "a file").unwrap();
        let verdict = async |workspace: &Path| {
            below_root(root.to_str().unwrap(), workspace.to_str().unwrap()).await.map_err(|failure| failure.code)
        };
        assert_eq!(verdict(&root.join("DS-1")).await, Ok(()));
        for escape in [root.join("DS-2"), outside.clone(), root.clone(), root.join("DS-1/../../outside")] {
            assert_eq!(verdict(&escape).await, Err("workspace_outside_root".to_owned()), "{}", escape.display());
        }
        for gone in [root.join("DS-3"), root.join("DS-4")] {
            assert_eq!(verdict(&gone).await, Err("agent_start_failed".to_owned()), "{}", gone.display());
        }
    }
}
