//! Machines with a network each, and a switch between them: network namespaces, which end with the test.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use super::{Machine, Part, run};

/// The network of one machine. Dropping it ends it, once its last process has ended.
pub(crate) struct Network(File);

impl Network {
    fn new() -> Self {
        let own = || File::open("/proc/thread-self/ns/net").expect("a thread has a network");
        let before = own();
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
        let new = Self(own());
        setns(before, CloneFlags::CLONE_NEWNET).expect("the way back is open");
        run(new.command("ip").args(["link", "set", "lo", "up"]));
        new
    }

    /// Its name for other programs.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }
}

/// `count` machines with the addresses 192.0.2.1 and up, at one switch in the test's own network.
pub(crate) fn machines(count: u8) -> Vec<Machine> {
    let ip = |words: &str| run(Command::new("ip").args(words.split(' ')));
    ip("link add lan type bridge");
    ip("link set lan up");
    let machine = |number: u8| {
        let network = Network::new();
        ip(&format!("link add port{number} type veth peer name peer{number}"));
        ip(&format!("link set port{number} master lan up"));
        ip(&format!("link set peer{number} netns {}", network.path()));
        let inside = |words: &str| run(network.command("ip").args(words.split(' ')));
        inside(&format!("link set peer{number} name eth0"));
        inside(&format!("address add {}/24 dev eth0", address(number)));
        inside("link set eth0 up");
        let mut machine = Machine::new();
        machine.network = Some(network);
        machine
    };
    (1..=count).map(machine).collect()
}

/// The address of the machine of this number.
pub(crate) fn address(number: u8) -> String {
    format!("192.0.2.{number}")
}

/// A machine that is to be a node.
pub(crate) struct Worker {
    /// `None` while it does not run.
    agent: Option<Part>,
    pub(crate) machine: Machine,
    pub(crate) name: String,
}

impl Worker {
    /// Starts its agent with these options, and waits until it runs.
    #[track_caller]
    pub(crate) fn start(&mut self, options: &[&str]) {
        let mut command = self.machine.longshore(&["node", "--name", &self.name, "--node-lease-duration", "4s"]);
        self.agent = Some(Part::start(command.args(options), "running"));
    }

    /// Kills its agent without warning.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.agent.take().expect("it runs").kill();
    }

    /// Lets its agent stand still, as a machine does that is suspended, or go on.
    #[track_caller]
    pub(crate) fn suspend(&self, yes: bool) {
        let signal = if yes { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.agent.as_ref().expect("it runs").signal(signal);
    }
}

/// Machines that join a cluster by tokens as `worker-1` and up, with the images of a machine.
#[track_caller]
pub(crate) fn join(control: &Machine, machines: Vec<Machine>, images: &Machine) -> Vec<Worker> {
    let join = |(number, machine): (usize, Machine)| {
        let place = "runtime/images";
        std::fs::create_dir_all(machine.data_dir().join("runtime")).unwrap();
        let (from, to) = (images.data_dir().join(place), machine.data_dir().join(place));
        run(Command::new("cp").arg("-a").args([from, to]));
        let mut worker = Worker { agent: None, machine, name: format!("worker-{}", number + 1) };
        worker.start(&invitation(control).iter().map(String::as_str).collect::<Vec<_>>());
        worker
    };
    machines.into_iter().enumerate().map(join).collect()
}

/// A cluster of real containers over several machines.
pub(crate) struct Fleet {
    pub(crate) workers: Vec<Worker>,
    pub(crate) control: Machine,
}

impl Fleet {
    /// A control plane that is no place for pods, and workers `worker-1` and up, which have the demonstration's image and joined by
    /// tokens.
    #[track_caller]
    pub(crate) fn start(workers: u8) -> Self {
        let mut machines = machines(workers + 1);
        let control = machines.remove(0);
        // A node is lost soon, so that the test need not wait for it.
        let options = ["up", "--detach", "--demo", "--node-monitor-grace-period", "6s", "--listen", "0.0.0.0:0"];
        run(&mut control.longshore(&options));
        control.ask(&["delete", "deployment/web", "service/web", "job/hello"]);
        let own = control.ask(&["get", "nodes", "-o", "name"]);
        control.ask(&["cordon", &own]);
        let workers = join(&control, machines, &control);
        Self { workers, control }
    }
}

/// The options with which a machine joins: what `longshore token create` prints after `longshore node`.
#[track_caller]
pub(crate) fn invitation(control: &Machine) -> Vec<String> {
    let command = run(&mut control.longshore(&["token", "create"]));
    let options = command.trim().strip_prefix("longshore node ").expect("it is a command to join");
    options.split(' ').map(str::to_owned).collect()
}
