//! In which order pods arrive, and how many.

use rand::RngExt;
use rand_pcg::Pcg64;

use crate::openb::Request;

/// The pods in random order, each as likely as any other; with a target, as many of them that together they ask for about so many
/// thousandths of GPUs.
///
/// If they ask for less, further ones are drawn from all of them with replacement and come last; if for more, some are taken away.
/// This is the inflation of FGD's experiments (Weng et al., USENIX ATC '23): drawing ends with the first pod of which one GPU
/// would pass the target, so one of several GPUs may pass it by the others. A pod without GPUs never ends it.
pub(crate) fn arrivals(requests: &[Request], target: Option<i64>, rng: &mut Pcg64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // The order in the file does not count.
    order.sort_by(|a, b| requests[*a].name.cmp(&requests[*b].name));
    let sorted = order.clone();
    shuffle(&mut order, rng);
    let Some(target) = target else { return order };
    let mut sum: i64 = requests.iter().map(Request::gpu_milli).sum();
    while sum > target && !order.is_empty() {
        let gone = order.remove(rng.random_range(0..order.len()));
        sum -= requests[gone].gpu_milli();
    }
    // Without any GPU asked for no number of pods would ever be enough.
    while sum > 0 && sum < target {
        let drawn = sorted[rng.random_range(0..sorted.len())];
        if sum + requests[drawn].milli > target {
            break;
        }
        order.push(drawn);
        sum += requests[drawn].gpu_milli();
    }
    order
}

/// Any order, each as likely (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut Pcg64) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.random_range(0..=last));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn requests(milli: &[i64]) -> Vec<Request> {
        let request = |(place, milli): (usize, &i64)| Request {
            name: format!("p{place}"),
            milli_cpu: 1,
            memory_mib: 1,
            gpus: i64::from(*milli > 0),
            milli: *milli,
            models: String::new(),
        };
        milli.iter().enumerate().map(request).collect()
    }

    fn order(requests: &[Request], target: Option<i64>, seed: u64) -> Vec<usize> {
        arrivals(requests, target, &mut Pcg64::seed_from_u64(seed))
    }

    #[test]
    fn each_pod_comes_once_unless_there_is_a_target() {
        let pods = requests(&[0, 500, 1000, 200]);
        let mut all = order(&pods, None, 7);
        assert_eq!(all, order(&pods, None, 7), "a seed is an order");
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
        let more = order(&pods, Some(6000), 7);
        let sum: i64 = more.iter().map(|pod| pods[*pod].gpu_milli()).sum();
        assert!((5000..=6000).contains(&sum), "{sum}");
        assert_eq!(more[..4], order(&pods, None, 7)[..], "what is drawn comes last");
        let less = order(&pods, Some(700), 7);
        assert!(less.iter().map(|pod| pods[*pod].gpu_milli()).sum::<i64>() <= 700);
    }

    #[test]
    fn a_target_that_cannot_be_reached_ends_all_the_same() {
        assert_eq!(order(&requests(&[0, 0]), Some(6000), 1).len(), 2);
        assert_eq!(order(&requests(&[]), Some(6000), 1).len(), 0);
        assert_eq!(order(&requests(&[500]), Some(0), 1).len(), 0);
    }
}
