//! `vertebra trace`

use super::client::{Target, segment};
use super::table::{grouped, moment, table};
use super::{CliError, print};
use crate::admin::trace::Trace;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A message (27 characters) or a request (16 hexadecimal digits, as in the log)
    id: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let trace: Trace = args
        .target
        .door()?
        .json("GET", &format!("/admin/trace/{}", segment(&args.id)), b"")?;
    match args.json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&trace).expect("a trace has a JSON form")
        )),
        false => print(&render(&trace)),
    }
    Ok(0)
}

/// A few lines on the message, then a table of what happened.
pub(super) fn render(trace: &Trace) -> String {
    let mut text = format!("{}\n", trace.id);
    if let Some(m) = &trace.message {
        let kind = if m.report { "report" } else { "message" };
        let from = m.sender.as_deref().unwrap_or("the node");
        text.push_str(&format!(
            "{kind} from {from} to {}, workflow {}: {}\n",
            m.recipient, m.workflow, m.status
        ));
        text.push_str(&format!(
            "{} bytes in {} chunks; arrived {}, leaves the inbox {}\n",
            grouped(m.bytes),
            m.chunks,
            moment(&m.created),
            moment(&m.expires)
        ));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = trace
        .steps
        .iter()
        .map(|s| {
            let at = s.at.replace('T', " ");
            vec![
                at,
                s.source.clone(),
                s.actor.clone(),
                s.action.clone(),
                s.outcome.clone(),
                s.request.clone(),
            ]
        })
        .collect();
    text.push_str(&table(&["WHEN", "FROM", "WHO", "WHAT", "OUTCOME", "REQUEST"], &rows));
    if trace.cut {
        text.push_str(&format!(
            "… there is more; {} audit entries are shown\n",
            crate::admin::trace::ENTRIES_MAX
        ));
    }
    text
}
