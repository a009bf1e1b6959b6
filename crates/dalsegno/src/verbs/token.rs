//! `dalsegno token`

use clap::{Subcommand, ValueEnum};
use dalsegno_api::{TokenInfo, TokenList};
use dalsegno_gateway::{Role, Token};
use serde_json::json;

use crate::error::CliError;
use crate::out;
use crate::settings::{Settings, color};
use crate::text::Table;
use crate::tokens::TokenFile;

/// Make, list and revoke tokens for the API
///
/// A token has a name and a role, and is shown once, when it is made: only its hash is kept. A running daemon knows of a
/// new or revoked one at once; none has to run. Whoever may write the state directory may do this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token, and print it
    New {
        /// What it is called: who or what will use it
        name: String,
        /// What it allows
        #[arg(long)]
        role: Allowed,
    },
    /// List the tokens, without what they are
    List,
    /// Revoke a token, and end its sessions
    Revoke {
        /// What it is called
        name: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Allowed {
    /// To read, contents too
    Viewer,
    /// To act as well
    Operator,
    /// Everything, also to see which tokens there are
    Admin,
}

pub(crate) fn run(args: Args, settings: &Settings) -> Result<(), CliError> {
    let file = TokenFile::new(&settings.state_dir);
    match args.what {
        What::New { name, role } => {
            let role = match role {
                Allowed::Viewer => Role::Viewer,
                Allowed::Operator => Role::Operator,
                Allowed::Admin => Role::Admin,
            };
            let (token, Token { name, role, hash: _, made_at }) = file.make(&name, role)?;
            if settings.json {
                out::json(&json!({"name": name, "role": role.as_str(), "made_at": made_at, "token": token}));
            } else {
                // The token alone, so that it can be handed on by `$(…)`.
                out::line(&token);
            }
        }
        What::List => {
            let tokens = file.read()?;
            if settings.json {
                let info = |Token { name, role, hash: _, made_at }| TokenInfo {
                    name,
                    role: role.as_str().to_owned(),
                    made_at,
                };
                out::json(&TokenList { tokens: tokens.into_iter().map(info).collect() });
                return Ok(());
            }
            if tokens.is_empty() {
                out::line("No tokens. `dalsegno token new NAME --role viewer` makes one.");
                return Ok(());
            }
            let mut table = Table::new(&["NAME", "ROLE", "MADE AT"]);
            for Token { name, role, hash: _, made_at } in &tokens {
                table.row([name.as_str(), role.as_str(), made_at.as_str()]);
            }
            table.lines(color()).iter().for_each(|line| out::line(line));
        }
        What::Revoke { name } => {
            file.revoke(&name)?;
            if !settings.json {
                out::line("It is revoked.");
            }
        }
    }
    Ok(())
}
