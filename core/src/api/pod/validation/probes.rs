//! Probes, hooks and the signal that stops a container.

use super::containers::Context;
use crate::api::pod::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
    UriScheme,
};
use crate::int_or_string::IntOrString;
use crate::validation::names::{is_http_header_name, is_valid_port_name, is_valid_port_num};
use crate::validation::{ErrorList, Path, Report};

/// Signals that end a container, sorted, without those for real time.
const SIGNALS: [&str; 34] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const WINDOWS_SIGNALS: [&str; 2] = ["SIGKILL", "SIGTERM"];

/// What is done to a container, by whichever of a probe or a hook.
#[derive(Default)]
struct Handler<'h> {
    exec: Option<&'h ExecAction>,
    http_get: Option<&'h HTTPGetAction>,
    tcp_socket: Option<&'h TCPSocketAction>,
    grpc: Option<&'h GRPCAction>,
    sleep: Option<&'h SleepAction>,
}

/// Checks the hooks and the three probes of a container.
pub(super) fn validate_all(context: &Context<'_>, container: &Container, at: &Path, errors: &mut ErrorList) {
    let grace = context.spec.termination_grace_period_seconds;
    if let Some(lifecycle) = &container.lifecycle {
        validate_lifecycle(lifecycle, grace, context.system(), &at.child("lifecycle"), errors);
    }
    if let Some(probe) = &container.liveness_probe {
        validate_probe(probe, grace, &at.child("livenessProbe"), errors);
        validate_one_success(probe, &at.child("livenessProbe"), errors);
    }
    if let Some(probe) = &container.readiness_probe {
        let at = at.child("readinessProbe");
        validate_probe(probe, grace, &at, errors);
        if let Some(seconds) = probe.termination_grace_period_seconds {
            let why = "must not be set for readinessProbes";
            errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, why);
        }
    }
    if let Some(probe) = &container.startup_probe {
        validate_probe(probe, grace, &at.child("startupProbe"), errors);
        validate_one_success(probe, &at.child("startupProbe"), errors);
    }
}

fn validate_one_success(probe: &Probe, at: &Path, errors: &mut ErrorList) {
    if probe.success_threshold != 1 {
        errors.invalid(&at.child("successThreshold"), probe.success_threshold, "must be 1");
    }
}

fn validate_probe(probe: &Probe, grace: Option<i64>, at: &Path, errors: &mut ErrorList) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    validate_handler(&handler, grace, at, errors);
    errors.non_negative(&at.child("initialDelaySeconds"), probe.initial_delay_seconds);
    errors.non_negative(&at.child("timeoutSeconds"), probe.timeout_seconds);
    errors.non_negative(&at.child("periodSeconds"), probe.period_seconds);
    errors.non_negative(&at.child("successThreshold"), probe.success_threshold);
    errors.non_negative(&at.child("failureThreshold"), probe.failure_threshold);
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

fn validate_lifecycle(lifecycle: &Lifecycle, grace: Option<i64>, system: &str, at: &Path, errors: &mut ErrorList) {
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            validate_handler(&handler_of(hook), grace, &at.child(field), errors);
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        validate_signal(signal, system, &at.child("stopSignal"), errors);
    }
}

fn handler_of(hook: &LifecycleHandler) -> Handler<'_> {
    Handler {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    }
}

fn validate_signal(signal: &str, system: &str, at: &Path, errors: &mut ErrorList) {
    match system {
        "" => errors.forbidden(at, "may not be set for containers with empty `spec.os.name`"),
        "windows" if !WINDOWS_SIGNALS.contains(&signal) => errors.not_supported(at, signal, &WINDOWS_SIGNALS),
        "linux" => {
            let real_time = real_time_signals();
            let mut all: Vec<&str> = SIGNALS.into_iter().chain(real_time.iter().map(String::as_str)).collect();
            if !all.contains(&signal) {
                all.sort_unstable();
                errors.not_supported(at, signal, &all);
            }
        }
        _ => {}
    }
}

fn real_time_signals() -> Vec<String> {
    let low = (1..=15).map(|number| format!("SIGRTMIN+{number}"));
    let high = (1..=14).map(|number| format!("SIGRTMAX-{number}"));
    low.chain(high).chain(["SIGRTMIN".to_owned(), "SIGRTMAX".to_owned()]).collect()
}

fn validate_handler(handler: &Handler<'_>, grace: Option<i64>, at: &Path, errors: &mut ErrorList) {
    type Check<'c> = Box<dyn Fn(&Path, &mut ErrorList) + 'c>;
    let checks: [(&str, Option<Check<'_>>); 5] = [
        ("exec", handler.exec.map(|exec| -> Check<'_> { Box::new(|at, errors| validate_exec(exec, at, errors)) })),
        ("httpGet", handler.http_get.map(|get| -> Check<'_> { Box::new(|at, errors| validate_get(get, at, errors)) })),
        (
            "tcpSocket",
            handler
                .tcp_socket
                .map(|tcp| -> Check<'_> { Box::new(|at, errors| validate_port(&tcp.port, &at.child("port"), errors)) }),
        ),
        (
            "grpc",
            handler.grpc.map(|grpc| -> Check<'_> {
                Box::new(|at, errors| validate_port(&IntOrString::Int(grpc.port), &at.child("port"), errors))
            }),
        ),
        (
            "sleep",
            handler
                .sleep
                .map(|sleep| -> Check<'_> { Box::new(move |at, errors| validate_sleep(sleep, grace, at, errors)) }),
        ),
    ];
    let mut given = 0;
    for (field, check) in checks.into_iter().filter_map(|(field, check)| Some((field, check?))) {
        if given == 0 {
            check(&at.child(field), errors);
        } else {
            errors.forbidden(&at.child(field), "may not specify more than 1 handler type");
        }
        given += 1;
    }
    if given == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn validate_exec(exec: &ExecAction, at: &Path, errors: &mut ErrorList) {
    if exec.command.is_empty() {
        errors.required(&at.child("command"), "");
    }
}

fn validate_get(get: &HTTPGetAction, at: &Path, errors: &mut ErrorList) {
    if get.path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    validate_port(&get.port, &at.child("port"), errors);
    if !get.scheme.is_known() {
        errors.not_supported(&at.child("scheme"), get.scheme.as_str(), UriScheme::ALL);
    }
    for header in &get.http_headers {
        errors.invalid_each(&at.child("httpHeaders"), &header.name, is_http_header_name(&header.name));
    }
}

fn validate_sleep(sleep: &SleepAction, grace: Option<i64>, at: &Path, errors: &mut ErrorList) {
    // Without a grace period something else is wrong, which is said elsewhere.
    if let Some(grace) = grace
        && !(0..=grace).contains(&sleep.seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(at, sleep.seconds, why);
    }
}

/// Checks a port given by number or name.
pub(crate) fn validate_port(port: &IntOrString, at: &Path, errors: &mut ErrorList) {
    match port {
        IntOrString::Int(number) => {
            for why in is_valid_port_num((*number).into()) {
                errors.invalid(at, *number, why);
            }
        }
        IntOrString::String(name) => errors.invalid_each(at, name, is_valid_port_name(name)),
    }
}
