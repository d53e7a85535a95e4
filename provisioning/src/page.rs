//! The status page: every machine, what it is, what it shall boot, how far it came. Plain HTML, nothing to run.

use crate::boot_plan;
use crate::config::Config;
use crate::inventory::Inventory;
use crate::machine::Enrolment;
use crate::names::{Moment, moment_text};
use crate::store::{Store, StoreError};
use serde::Serialize;
use std::fmt::Write as _;

/// One machine. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Certname.
    pub certname: String,
    /// Short name.
    pub name: String,
    /// Hardware addresses.
    pub macs: Vec<String>,
    /// Address.
    pub address: String,
    /// Site.
    pub site: String,
    /// Role.
    pub role: String,
    /// The release that the operator wants.
    pub wanted: Option<String>,
    /// The release that its next boot gets.
    pub served: Option<String>,
    /// The release of its last healthy check-in.
    pub running: Option<String>,
    /// When that was, seconds.
    pub checked_in: Option<Moment>,
    /// Boots of the wanted release without a check-in.
    pub attempts: u32,
    /// `idle`, `armed`, `issued`, `enrolled`.
    pub enrolment: &'static str,
    /// End of the window, while armed.
    pub armed_until: Option<Moment>,
    /// Who has the token, while it is out.
    pub token_at: Option<String>,
    /// How far the last boot came.
    pub stage: Option<String>,
    /// When it said so, seconds.
    pub stage_at: Option<Moment>,
    /// Whether that report carried the machine's key.
    pub stage_proved: bool,
    /// Why it fails, if it does.
    pub failed: Option<String>,
}

/// All machines, by certname.
pub fn rows(config: &Config, store: &Store, inventory: &Inventory, now: Moment) -> Result<Vec<Row>, StoreError> {
    let releases = store.releases()?;
    let mut rows = Vec::new();
    for machine in inventory.machines.values() {
        let state = store.machine(&machine.certname)?;
        let plan = boot_plan::plan(machine, &state, &releases, &config.fallback, now);
        let (enrolment, token_at) = match &state.enrolment {
            Enrolment::Armed { until } if now < *until => ("armed", None),
            Enrolment::Idle | Enrolment::Armed { .. } => ("idle", None),
            Enrolment::Issued { to, .. } => ("issued", Some(to.clone())),
            Enrolment::Enrolled { .. } => ("enrolled", None),
        };
        let failure = state.failure.as_ref().and_then(|failure| {
            let text = failure.failed.as_ref()?;
            Some(format!("{}: {text}", failure.stage))
        });
        rows.push(Row {
            certname: machine.certname.to_string(),
            name: machine.name.to_string(),
            macs: machine.macs.iter().map(ToString::to_string).collect(),
            address: machine.address.to_string(),
            site: machine.site.to_string(),
            role: machine.role.to_string(),
            wanted: plan.wanted.map(|release| release.to_string()),
            served: plan.served.map(|release| release.to_string()),
            running: state.healthy_release.as_ref().map(ToString::to_string),
            checked_in: state.healthy_at,
            attempts: plan.attempts,
            enrolment,
            armed_until: state.armed_until(now),
            token_at,
            stage: state.report.as_ref().map(|report| match report.failed {
                Some(_) => format!("{} failed", report.stage),
                None => report.stage.to_string(),
            }),
            stage_at: state.report.as_ref().map(|report| report.at),
            stage_proved: state.report.as_ref().is_some_and(|report| report.proved),
            failed: match (failure, plan.fallback) {
                (Some(failure), Some(fallback)) => Some(format!("{failure}; {fallback}")),
                (failure, fallback) => failure.or(fallback),
            },
        });
    }
    Ok(rows)
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// The style sheet, `/page.css`.
pub const STYLE: &str = "body{font:14px/1.4 sans-serif;margin:1.5em}table{border-collapse:collapse}\
                     th,td{text-align:left;padding:.3em .8em;border-bottom:1px solid #ccc;vertical-align:top}\
                     .bad{background:#fdd}.open{background:#ffd}small{color:#555}";

/// Seconds between two loads of the page.
const REFRESH_SECONDS: u32 = 5;

fn dash(text: Option<&str>) -> String {
    text.map_or_else(|| "–".to_owned(), escaped)
}

/// The page.
pub fn html(rows: &[Row], now: Moment) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Vertebra: machines</title>\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\"><link rel=\"stylesheet\" href=\"/page.css\"></head><body>\n\
         <h1>Machines</h1>\n<p>{} UTC, {} machines. The same as JSON: <a href=\"/status.json\">/status.json</a></p>\n\
         <table>\n<tr><th>Machine</th><th>MAC, address</th><th>Site</th><th>Role</th><th>Release wanted</th>\
         <th>Running</th><th>Last stage</th><th>Enrolment</th><th>Why it failed</th></tr>\n",
        moment_text(now),
        rows.len()
    );
    for row in rows {
        let class = match (&row.failed, row.enrolment) {
            (Some(_), _) => " class=\"bad\"",
            (None, "armed" | "issued") => " class=\"open\"",
            (None, _) => "",
        };
        let macs: Vec<String> = row.macs.iter().map(|mac| escaped(mac)).collect();
        let wanted = match (&row.wanted, &row.served) {
            (Some(wanted), Some(served)) if wanted != served => {
                format!("{}<br><small>boots {}</small>", escaped(wanted), escaped(served))
            }
            (wanted, _) => dash(wanted.as_deref()),
        };
        let attempts = match row.attempts {
            0 => String::new(),
            count => format!("<br><small>{count} boots without a check-in</small>"),
        };
        let running = match row.checked_in {
            Some(at) => format!("{}<br><small>{}</small>", dash(row.running.as_deref()), moment_text(at)),
            None => dash(row.running.as_deref()),
        };
        let stage = match row.stage_at {
            Some(at) => {
                let unproved = if row.stage_proved { "" } else { ", unproved" };
                format!(
                    "{}<br><small>{}{unproved}</small>",
                    dash(row.stage.as_deref()),
                    moment_text(at)
                )
            }
            None => "–".to_owned(),
        };
        let enrolment = match (row.armed_until, &row.token_at) {
            (Some(until), _) => format!("armed until {}", moment_text(until)),
            (None, Some(to)) => format!("token handed out to {}", escaped(to)),
            (None, None) => escaped(row.enrolment),
        };
        writeln!(
            page,
            "<tr{class}><td>{}<br><small>{}</small></td><td>{}<br><small>{}</small></td><td>{}</td><td>{}</td>\
             <td>{wanted}{attempts}</td><td>{running}</td><td>{stage}</td><td>{enrolment}</td><td>{}</td></tr>",
            escaped(&row.name),
            escaped(&row.certname),
            macs.join("<br>"),
            escaped(&row.address),
            escaped(&row.site),
            escaped(&row.role),
            dash(row.failed.as_deref()),
        )
        .expect("a String takes all");
    }
    page.push_str("</table>\n</body></html>\n");
    page
}
