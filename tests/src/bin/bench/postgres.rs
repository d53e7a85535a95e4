//! PostgreSQL as a peer: a cluster of its own in a temporary folder, default durability, the same people, pgbench.

use crate::people::{Person, lines};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use vertebra_tests::node::Folder;
use vertebra_tests::process::{Process, cpu, signal, wait_until};

/// Clients of pgbench.
const AT_ONCE: u64 = 64;
/// Multiplies row numbers, so that updates go all over the table; no divisor of any size of it.
const STRIDE: u64 = 7919;
/// More memory than the default gives; durability as it comes.
const SETTINGS: [&str; 6] = [
    "listen_addresses=",
    "shared_buffers=2GB",
    "work_mem=16MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=8GB",
    "max_connections=200",
];
const TABLES: &str = "
    CREATE EXTENSION pg_trgm; CREATE EXTENSION fuzzystrmatch;
    CREATE TABLE patient (id bigint, version int NOT NULL, doc jsonb NOT NULL);
    CREATE TABLE person (id bigint, family text, given text, birth date, gender text);";
/// Both indexes for fuzzy searches, so that the planner takes the better one.
const INDEXES: &str = "
    ALTER TABLE patient ADD PRIMARY KEY (id);
    CREATE INDEX person_exact ON person (family, birth, gender);
    CREATE INDEX person_names ON person USING gin (family gin_trgm_ops, given gin_trgm_ops);
    CREATE INDEX person_birth ON person (birth);
    VACUUM ANALYZE patient; VACUUM ANALYZE person; CHECKPOINT;";

/// The exact search: family, birthdate, gender.
pub const EXACT: &str = "SELECT patient.doc FROM person JOIN patient USING (id)
    WHERE family = lower($1) AND birth = $2::date AND gender = $3 LIMIT 51";
/// The fuzzy one: names that look or sound alike, or are exchanged, and the same date of birth.
pub const FUZZY: &str = "SELECT patient.doc FROM person JOIN patient USING (id)
    WHERE birth = $2::date
      AND ((family % lower($1) AND given % lower($3)) OR (family % lower($3) AND given % lower($1))
        OR (soundex(family) = soundex($1) AND soundex(given) = soundex($3)))
    ORDER BY similarity(family, lower($1)) + similarity(given, lower($3)) DESC LIMIT 51";

/// A running cluster.
pub struct Postgres {
    process: Process,
    /// Its folder, which holds the socket too.
    folder: Folder,
    programs: PathBuf,
    /// Patients in the tables.
    pub rows: u64,
    /// Updates that every client of pgbench has done so far.
    done_each: u64,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: nothing here is needed again, but every backend ends.
        if signal(self.process.pid(), Signal::SIGQUIT) {
            self.process.await_end();
        }
    }
}

/// What one run of pgbench reached.
pub struct Updates {
    /// Processor time of all of PostgreSQL's processes for one.
    pub cpu_us: f64,
    /// A second.
    pub rate: f64,
}

/// A command as the user that PostgreSQL runs as: it refuses root.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/");
    command
}

fn user() -> Option<User> {
    Uid::effective().is_root().then(|| {
        let found = User::from_name("postgres").expect("users can be looked up");
        found.expect("the package postgresql-15 makes a user postgres")
    })
}

/// The folder of the newest version's programs.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed: `make bench` does that")
}

impl Postgres {
    /// Makes and starts an empty cluster.
    pub fn start() -> Postgres {
        let (folder, programs) = (Folder::new("bench-postgres"), programs());
        if let Some(user) = user() {
            let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
            chown(folder.path(), uid, gid).expect("the folder can be given away");
        }
        let data = folder.path().join("data");
        let mut init = command(&programs.join("initdb"));
        init.args([
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "-D",
        ])
        .arg(&data);
        let output = init.output().expect("initdb starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut serve = command(&programs.join("postgres"));
        serve.arg("-D").arg(&data).arg("-k").arg(folder.path());
        for setting in SETTINGS {
            serve.args(["-c", setting]);
        }
        let process = Process::start(&mut serve, &folder.path().join("log"));
        let postgres = Postgres {
            process,
            folder,
            programs,
            rows: 0,
            done_each: 0,
        };
        wait_until("PostgreSQL answers", Duration::from_secs(60), || {
            let mut ask = postgres.client("psql");
            ask.args(["-d", "postgres", "-c", "SELECT 1"]);
            ask.output().is_ok_and(|output| output.status.success())
        });
        postgres
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-h").arg(self.folder.path()).args(["-U", "postgres"]);
        command
    }

    fn psql(&self) -> Command {
        let mut command = self.client("psql");
        command.args(["-d", "postgres", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// Runs statements, each by itself; what they print.
    pub fn run(&self, statements: &str) -> String {
        let mut command = self.psql();
        for statement in statements.split(';').filter(|text| !text.trim().is_empty()) {
            command.args(["-c", statement]);
        }
        let output = command.output().expect("psql starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A psql that takes rows of a table from its input.
    fn copy(&self, table: &str) -> (Child, BufWriter<ChildStdin>) {
        let mut command = self.psql();
        command.args(["-c", &format!("COPY {table} FROM STDIN")]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("psql starts");
        let input = child.stdin.take().expect("a pipe");
        (child, BufWriter::with_capacity(1 << 20, input))
    }

    /// Loads the people of a file: the whole record, and what is searched by.
    pub fn load(&mut self, file: &Path) {
        self.run(TABLES);
        let (mut patients, mut patient_rows) = self.copy("patient");
        let (mut persons, mut person_rows) = self.copy("person");
        lines(file, |line| {
            let Some(person) = Person::of(line) else { return };
            self.rows += 1;
            let id = self.rows;
            let doc = line.replace('\\', "\\\\");
            let (family, given) = (person.family.to_lowercase(), person.given.to_lowercase());
            let (birth, gender) = (person.birth, person.gender);
            writeln!(patient_rows, "{id}\t1\t{doc}")
                .and_then(|()| writeln!(person_rows, "{id}\t{family}\t{given}\t{birth}\t{gender}"))
                .expect("PostgreSQL takes rows");
        });
        for rows in [&mut patient_rows, &mut person_rows] {
            rows.flush().expect("PostgreSQL takes rows");
        }
        drop((patient_rows, person_rows));
        for child in [&mut patients, &mut persons] {
            assert!(
                child.wait().expect("a child can be waited for").success(),
                "rows are loaded"
            );
        }
        assert!(self.rows % STRIDE != 0, "a size that {STRIDE} does not divide");
        self.run(INDEXES);
    }

    /// How many updates each client can do of rows that nobody has touched, in `runs` runs.
    pub fn updates_each(&self, runs: u64, wanted: u64) -> u64 {
        wanted.min(self.rows / AT_ONCE / runs)
    }

    /// pgbench with conditional updates of whole records, `each` by every client.
    pub fn updates(&mut self, each: u64) -> Updates {
        let script = self.folder.path().join("update.sql");
        let text = format!(
            "\\set n :n + 1\n\\set id ((:n * {AT_ONCE} + :client_id) * {STRIDE}) % {} + 1\n\
             \\set phone 1632960000 + :n % 1000\n\
             UPDATE patient SET version = version + 1, doc = jsonb_set(doc, '{{telecom,0,value}}', \
             to_jsonb('0' || (:phone)::text)) WHERE id = :id AND version = 1;\n",
            self.rows
        );
        fs::write(&script, text).expect("the folder can be written");
        let before = self.cpu();
        let mut pgbench = self.client("pgbench");
        pgbench.args(["-n", "-M", "prepared", "-c", &AT_ONCE.to_string(), "-j", "2"]);
        pgbench.args(["-t", &each.to_string(), "-D", &format!("n={}", self.done_each), "-f"]);
        let output = pgbench.arg(&script).arg("postgres").output().expect("pgbench starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let count = each * AT_ONCE;
        let all = format!("actually processed: {count}/{count}");
        assert!(output.status.success() && text.contains(&all), "{text}{errors}");
        self.done_each += each;
        // The backends end behind the clients' back.
        std::thread::sleep(Duration::from_millis(500));
        let used = self.cpu() - before;
        let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap_or("");
        let rate = line.split(' ').next().and_then(|rate| rate.parse().ok());
        Updates {
            cpu_us: used.as_secs_f64() * 1e6 / count as f64,
            rate: rate.unwrap_or_else(|| panic!("pgbench prints a rate: {text}")),
        }
    }

    /// Panics when any update changed nothing.
    pub fn check_updates(&self) {
        let changed = self.run("SELECT sum(version - 1) FROM patient");
        assert_eq!(
            changed,
            (self.done_each * AT_ONCE).to_string(),
            "every update changes one row"
        );
    }

    /// Processor time of the server and all its processes, also those that have ended.
    pub fn cpu(&self) -> Duration {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let living: Duration = children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .map(cpu)
            .sum();
        cpu(pid) + living + ended_children(pid)
    }
}

/// Processor time of a process's children that have ended.
fn ended_children(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // As for `cpu`; cutime and cstime are fields 16 and 17.
    let fields = stat.rsplit(") ").next().unwrap_or("").split(' ').collect::<Vec<_>>();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100) as u64;
    Duration::from_micros((ticks(13) + ticks(14)) * 1_000_000 / ticks_per_s)
}
