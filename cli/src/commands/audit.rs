//! `flotilla audit`

use clap::Args;
use flotilla_api::AuditEntry;

use super::rows::{self, Row};
use crate::Context;
use crate::args::OutputArgs;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Cell, Tone, date};

/// Show who changed what, the newest changes
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

impl Row for AuditEntry {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &["TIME", "WHO", "ACTION", "TARGET", "DETAIL", "SEQUENCE"]
        } else {
            &["TIME", "WHO", "ACTION", "TARGET", "DETAIL"]
        }
    }

    fn cells(&self, wide: bool, _: i64) -> Vec<Cell> {
        let mut cells: Vec<Cell> = vec![
            Cell::new(date(self.at)).tone(Tone::Faint),
            Cell::new(&self.who),
            Cell::new(&self.action),
            Cell::new(&self.target),
            Cell::new(&self.detail),
        ];
        if wide {
            cells.push(Cell::new(self.sequence.to_string()));
        }
        cells
    }

    fn key(&self) -> String {
        self.sequence.to_string()
    }
}

pub(crate) async fn run(context: &Context, args: AuditArgs) -> Result<Code, Error> {
    let entries = context.hub()?.audit(args.limit).await?;
    rows::show(&context.terminal, args.output.output, "entries", &entries)?;
    Ok(Code::Done)
}
