//! One kind of event after the other, with one scheduler that needs no time.

use super::*;

#[test]
fn a_job_arrives_runs_and_ends() {
    let events = vec![at(0.0, node("n", 4)), at(1.0, What::Job(job("j", vec![task(2, 1, 10.0), task(1, 2, 5.0)])))];
    let (ended, lines) = run(&first(), events);
    assert_eq!(
        lines,
        [
            "0 up n",
            "1 arrived j",
            "1 placed j-0 on n waiting since 1",
            "1 placed j-1 on n waiting since 1",
            "1 placed j-2 on n waiting since 1",
            "1 first attempt j by 0 since 1: 3/0/0",
            "6 left j-2 n since 1: Finished",
            "11 left j-0 n since 1: Finished",
            "11 left j-1 n since 1: Finished",
            "11 ended j of 1",
        ]
    );
    assert_eq!((ended.at, ended.events, ended.jobs, ended.running, ended.waiting), (seconds(11.0), 2, 0, 0, 0));
}

#[test]
fn what_has_no_room_waits_until_some_is_free() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(1.0, What::Job(job("a", vec![task(2, 1, 10.0)]))),
        at(2.0, What::Job(job("b", vec![task(3, 1, 10.0)]))),
    ];
    let lines = lines(&first(), events);
    assert_eq!(
        with(&lines, &["refused", "attempt", "b-0", "b-2", "ended"]),
        [
            "1 first attempt a by 0 since 1: 2/0/0",
            "2 refused b-0",
            "2 first attempt b by 0 since 2: 0/0/3",
            "11 ended a of 1",
            "11 placed b-0 on n waiting since 2",
            "11 refused b-2",
            "11 attempt b by 0 since 11: 2/0/1",
            "21 left b-0 n since 11: Finished",
            "21 placed b-2 on n waiting since 2",
            "21 attempt b by 0 since 21: 1/0/0",
            "31 left b-2 n since 21: Finished",
            "31 ended b of 2",
        ]
    );
}

#[test]
fn a_wait_doubles_with_each_attempt_that_failed() {
    let mut events = vec![at(0.0, node("n", 1)), at(0.0, What::Job(job("big", vec![task(1, 2, 1.0)])))];
    // Something happens every tenth of a second, but nothing that helps.
    events.extend((1..600).map(|tenth| at(f64::from(tenth) / 10.0, node("n", 1))));
    let lines = lines(&first(), events);
    let tried: Vec<f64> =
        with(&lines, &["attempt"]).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(tried, [0.0, 1.0, 3.0, 7.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0]);
}

#[test]
fn at_once_means_behind_the_others_until_it_is_given_up() {
    let simulation = Simulation {
        retry: Retry::Immediate { attempts: 3 },
        architecture: Architecture::Monolithic { decisions: think(1.0) },
        ..first()
    };
    let events = vec![
        at(0.0, node("n", 1)),
        at(0.0, What::Job(job("big", vec![task(1, 2, 1.0)]))),
        at(0.0, What::Job(job("small", vec![task(1, 1, 1.0)]))),
    ];
    assert_eq!(
        with(&lines(&simulation, events), &["attempt", "gave", "ended"]),
        [
            "1 first attempt big by 0 since 0: 0/0/1",
            "2 first attempt small by 0 since 1: 1/0/0",
            "3 ended small of 0",
            "3 attempt big by 0 since 2: 0/0/1",
            "4 attempt big by 0 since 3: 0/0/1",
            "4 gave big up: 1",
            "4 ended big of 0",
        ]
    );
}

pub(super) fn think(time: f64) -> DecisionTimes {
    DecisionTimes::all(DecisionTime::Modelled { per_job: seconds(time), per_task: Duration::ZERO })
}

#[test]
fn decisions_take_their_time() {
    let decisions = DecisionTimes {
        batch: DecisionTime::Modelled { per_job: seconds(1.0), per_task: seconds(0.5) },
        service: DecisionTime::Modelled { per_job: seconds(5.0), per_task: Duration::ZERO },
    };
    let simulation = Simulation { architecture: Architecture::Monolithic { decisions }, ..first() };
    let events = vec![
        at(0.0, node("n", 9)),
        at(0.0, What::Job(job("a", vec![task(2, 1, 1.0)]))),
        at(0.5, What::Job(service("s", vec![task(2, 1, 1.0)]))),
        at(0.5, What::Job(job("b", vec![important(task(1, 1, 1.0), 7)]))),
    ];
    let (ended, lines) = run(&simulation, events);
    assert_eq!(
        with(&lines, &["attempt"]),
        [
            "2 first attempt a by 0 since 0: 2/0/0",
            "3.5 first attempt b by 0 since 2: 1/0/0",
            "8.5 first attempt s by 0 since 3.5: 2/0/0",
        ],
        "the more important job comes first though it came last"
    );
    assert_eq!(ended.busy, [seconds(8.5)]);
}

#[test]
fn a_lost_nodes_pods_wait_again_from_their_beginning() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(job("j", vec![task(2, 1, 10.0)]))),
        at(4.0, What::NodeLost("n".into())),
        at(5.0, What::NodeLost("n".into())),
        at(6.0, node("m", 2)),
    ];
    assert_eq!(
        lines(&first(), events)[4..],
        [
            "4 left j-0 n since 0: NodeLost",
            "4 left j-1 n since 0: NodeLost",
            "4 down 0",
            "4 refused j-0",
            "4 attempt j by 0 since 4: 0/0/2",
            "6 placed j-0 on m waiting since 4",
            "6 placed j-1 on m waiting since 4",
            "6 attempt j by 0 since 6: 2/0/0",
            "16 left j-0 m since 6: Finished",
            "16 left j-1 m since 6: Finished",
            "16 ended j of 0",
        ]
    );
}

#[test]
fn a_drained_node_takes_no_pods_until_it_comes_again() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(job("j", vec![task(1, 1, 10.0)]))),
        at(4.0, What::Drain("n".into())),
        at(8.0, node("n", 2)),
    ];
    assert_eq!(
        with(&lines(&first(), events), &["left", "placed", "ended"]),
        [
            "0 placed j-0 on n waiting since 0",
            "4 left j-0 n since 0: Drained",
            "8 placed j-0 on n waiting since 4",
            "18 left j-0 n since 8: Finished",
            "18 ended j of 0",
        ]
    );
}

#[test]
fn a_node_that_is_other_than_before_keeps_its_pods() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(job("j", vec![task(2, 1, 10.0)]))),
        at(1.0, node("n", 1)),
        at(1.0, What::Job(job("k", vec![task(1, 1, 10.0)]))),
        at(2.0, node("n", 3)),
    ];
    assert_eq!(
        with(&lines(&first(), events), &["placed", "left"])[2..],
        [
            "2 placed k-0 on n waiting since 1",
            "10 left j-0 n since 0: Finished",
            "10 left j-1 n since 0: Finished",
            "12 left k-0 n since 2: Finished",
        ]
    );
}

#[test]
fn a_cancelled_job_ends_wherever_its_pods_are() {
    let simulation = Simulation { architecture: Architecture::Monolithic { decisions: think(1.0) }, ..first() };
    let events = vec![
        at(0.0, node("n", 1)),
        at(0.0, What::Job(service("half", vec![task(2, 1, 0.0)]))),
        at(2.0, What::Cancel("half".into())),
        at(2.0, What::Cancel("nobody".into())),
        at(3.0, What::Job(job("thought", vec![task(1, 1, 0.0)]))),
        at(3.5, What::Cancel("thought".into())),
        at(3.5, What::Job(job("thought", vec![task(1, 1, 1.0)]))),
    ];
    assert_eq!(
        lines(&simulation, events)[4..],
        [
            "2 left half-0 n since 1: Cancelled",
            "2 ended half of 0",
            "3 arrived thought",
            "3.5 ended thought of 3",
            "3.5 arrived thought",
            "4 first attempt thought by 0 since 3: 0/0/0",
            "5 placed thought-0 on n waiting since 3.5",
            "5 first attempt thought by 0 since 4: 1/0/0",
            "6 left thought-0 n since 5: Finished",
            "6 ended thought of 3.5",
        ]
    );
}

#[test]
fn a_gang_gets_all_or_nothing() {
    let events = vec![
        at(0.0, node("n", 3)),
        at(0.0, What::Job(job("a", vec![task(2, 1, 10.0)]))),
        at(1.0, What::Job(gang("g", vec![task(3, 1, 10.0)]))),
        at(1.0, What::Job(job("b", vec![task(1, 1, 5.0)]))),
    ];
    assert_eq!(
        with(&lines(&first(), events), &["attempt", "g-0", "refused"]),
        [
            "0 first attempt a by 0 since 0: 2/0/0",
            "1 refused g-1",
            "1 first attempt g by 0 since 1: 0/0/3",
            "1 first attempt b by 0 since 1: 1/0/0",
            "6 refused g-1",
            "6 attempt g by 0 since 6: 0/0/3",
            "10 placed g-0 on n waiting since 1",
            "10 attempt g by 0 since 10: 3/0/0",
            "20 left g-0 n since 10: Finished",
        ]
    );
}

#[test]
fn the_more_important_evicts_and_the_evicted_waits_again() {
    let events = || {
        vec![
            at(0.0, node("n", 2)),
            at(0.0, What::Job(job("low", vec![task(2, 1, 10.0)]))),
            at(3.0, What::Job(job("high", vec![important(task(1, 2, 4.0), 5)]))),
        ]
    };
    assert_eq!(
        with(&lines(&first(), events()), &["left", "placed"])[2..],
        [
            "3 left low-0 n since 0: Preempted",
            "3 left low-1 n since 0: Preempted",
            "3 placed high-0 on n waiting since 3",
            "7 left high-0 n since 3: Finished",
            "7 placed low-0 on n waiting since 3",
            "7 placed low-1 on n waiting since 3",
            "17 left low-0 n since 7: Finished",
            "17 left low-1 n since 7: Finished",
        ]
    );
    let without = Simulation { preemption: false, ..first() };
    assert!(with(&lines(&without, events()), &["Preempted"]).is_empty());
}

#[test]
fn a_gang_that_cannot_be_completed_evicts_nobody() {
    let events = vec![
        at(0.0, node("n", 2)),
        at(0.0, What::Job(job("low", vec![task(2, 1, 10.0)]))),
        at(3.0, What::Job(gang("high", vec![important(task(3, 1, 4.0), 5)]))),
        at(4.0, What::Cancel("high".into())),
    ];
    let lines = lines(&first(), events);
    assert!(with(&lines, &["Preempted"]).is_empty(), "{lines:?}");
    assert_eq!(with(&lines, &["Finished"]).len(), 2);
}

#[test]
fn a_job_without_pods_ends_at_once_and_pods_without_time_too() {
    let events = vec![
        at(0.0, node("n", 1)),
        at(1.0, What::Job(job("none", vec![task(0, 1, 1.0)]))),
        at(2.0, What::Job(job("blink", vec![Task { duration: Some(Duration::ZERO), ..task(1, 1, 1.0) }]))),
    ];
    assert_eq!(
        with(&lines(&first(), events), &["ended", "left"]),
        ["1 ended none of 1", "2 left blink-0 n since 2: Finished", "2 ended blink of 2"]
    );
}

#[test]
fn more_pods_than_can_ever_be_counted_one_by_one_are_refused_as_one() {
    let many = vec![task(u32::MAX, 1, 0.0), task(u32::MAX, 2, 0.0)];
    let (ended, lines) = run(&first(), vec![at(0.0, node("n", 3)), at(0.0, What::Job(job("j", many)))]);
    assert_eq!(with(&lines, &["first"]), [format!("0 first attempt j by 0 since 0: 3/0/{}", u32::MAX)]);
    assert_eq!(ended.events, 2);
}

#[test]
fn a_workload_that_is_not_in_order_is_an_error_that_says_so() {
    let mut diary = Diary::default();
    let events = vec![at(2.0, node("n", 1)), at(1.0, node("m", 1))];
    let error = first().run(profile(), events, None, &mut diary).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event 2 is of 1s, but the ones before reach 2s: a workload's events must be in the order of time; sort them"
    );
    let events = vec![at(1.0, What::Job(job("j", vec![task(1, 1, 0.0)]))), at(2.0, What::Job(job("j", vec![])))];
    let error = first().run(profile(), events, None, &mut diary).unwrap_err();
    assert!(error.to_string().starts_with("job \"j\" arrives at 2s while another"), "{error}");
    let error = first().run(profile(), vec![at(1.0, node("", 1))], None, &mut diary).unwrap_err();
    assert!(error.to_string().contains("has no name"), "{error}");
    let events = vec![Ok(Event { at: seconds(3.0), what: node("n", 1) }), Err(std::io::Error::other("cut"))];
    let error = first().run(profile(), events, None, &mut diary).unwrap_err();
    assert_eq!(error.to_string(), "the workload cannot be read on after 1 events, at 3s");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let refused = |simulation: &Simulation| simulation.start(profile()).unwrap_err().to_string();
    let shared =
        |schedulers| Architecture::SharedState { schedulers, conflicts: Conflicts::Fine, commit: Commit::Incremental };
    let of = |architecture| Simulation { architecture, ..first() };
    assert!(refused(&of(shared(vec![]))).contains("no scheduler"));
    let batch = SchedulerSpec { takes: Takes::Batch, ..SchedulerSpec::default() };
    assert!(refused(&of(shared(vec![batch.clone()]))).contains("class Service"));
    let measured = DecisionTimes::all(DecisionTime::Measured);
    assert!(refused(&of(Architecture::Monolithic { decisions: measured })).contains("clock"));
    assert!(refused(&Simulation { retry: Retry::Immediate { attempts: 0 }, ..first() }).contains("0 attempts"));
    let offers = Architecture::TwoLevel { frameworks: vec![SchedulerSpec::default()] };
    assert!(refused(&of(offers)).contains("preemption"));
    assert!(first().start(Vec::new()).unwrap_err().to_string().contains("profile"));
    assert!(first().start(vec![profile(), profile()]).unwrap_err().to_string().contains("two profiles"));
}

#[test]
fn a_configuration_is_plain_data() {
    let text = json!({
        "architecture": { "sharedState": {
            "schedulers": [
                { "takes": "batch" },
                { "takes": "service", "decisions": { "service": { "modelled": { "perJob": 0.1, "perTask": 0.005 } } } },
            ],
            "conflicts": "coarse", "commit": "gang",
        } },
        "retry": { "immediate": { "attempts": 1000 } }, "preemption": false, "ties": "first", "seed": 7,
    });
    let read: Simulation = serde_json::from_value(text.clone()).unwrap();
    let Architecture::SharedState { schedulers, .. } = &read.architecture else { panic!("{read:?}") };
    let time = DecisionTime::Modelled { per_job: seconds(0.1), per_task: seconds(0.005) };
    assert_eq!(schedulers[1].decisions.of(Class::Service), time);
    let again: Simulation = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(again, read);
    assert!(serde_json::from_value::<Simulation>(json!({ "sead": 7 })).is_err());
    let bad = json!({ "retry": { "backoff": { "initial": -1, "max": 1 } } });
    assert!(serde_json::from_value::<Simulation>(bad).unwrap_err().to_string().contains("no time in seconds"));
}
