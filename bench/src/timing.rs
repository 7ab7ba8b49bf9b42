//! Whether the time of a response tells that an address has an account: requests for a new
//! password, for addresses with an account and without one, in random order. The two samples are
//! compared by a permutation test of their ranks.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::seq::SliceRandom;
use serde_json::json;

use crate::{
    load_generator::{Connection, Request},
    shop_process::ShopProcess,
};

/// Requests of each kind in a run.
const REQUESTS: usize = 200;

const RUNS: usize = 5;

/// How often the kinds are dealt anew to the measured times.
const PERMUTATIONS: usize = 20_000;

const PASSWORD: &str = "a password for timing";

pub async fn run() -> anyhow::Result<()> {
    println!("POST /api/auth/password/forgot, {REQUESTS} known and {REQUESTS} unknown addresses");
    for number in 1..=RUNS {
        // A shop of its own: an account gets few mails an hour. No server answers at this address,
        // so that each mail is tried, and waits.
        let shop = ShopProcess::start_with(&[
            ("MAIL__URI", "smtp://127.0.0.1:1?tls=none"),
            ("MAIL__FROM", "shop@souk.example"),
            ("MAIL__LINK_BASE", "https://souk.example"),
            ("LIMITS__PER_ADDRESS", "0"),
            ("AUTH__BCRYPT_COST", "4"),
        ])?;
        let mut connection = Connection::open(shop.address).await?;
        for account in 0..REQUESTS {
            let body = json!({"email": known(account), "password": PASSWORD, "name": "Ada"});
            let (status, _) = post(&mut connection, "register", &body).await?;
            ensure!(status == 201, "a registration was answered with {status}");
        }
        let mut requests: Vec<(bool, String)> = (0..REQUESTS)
            .flat_map(|account| [(true, known(account)), (false, unknown(account))])
            .collect();
        requests.shuffle(&mut rand::rng());
        let mut times = Vec::new();
        for (is_known, email) in requests {
            let started = Instant::now();
            let (status, _) =
                post(&mut connection, "password/forgot", &json!({ "email": email })).await?;
            ensure!(status == 202, "a request was answered with {status}");
            times.push((is_known, started.elapsed()));
        }
        let [known, unknown] = [true, false].map(|kind| median(&times, kind));
        let p = permutation_p(&times);
        println!("  run {number}: median {known:.1?} and {unknown:.1?}, p = {p:.3}");
    }
    Ok(())
}

async fn post(
    connection: &mut Connection,
    route: &str,
    body: &serde_json::Value,
) -> anyhow::Result<(u16, usize)> {
    let request = Request::post(&format!("/api/auth/{route}"), "", &body.to_string());
    connection.exchange(&request).await
}

fn known(number: usize) -> String {
    format!("known-{number}@souk.example")
}

/// As long as those that are known.
fn unknown(number: usize) -> String {
    format!("other-{number}@souk.example")
}

fn median(times: &[(bool, Duration)], kind: bool) -> Duration {
    let mut times: Vec<Duration> =
        times.iter().filter(|(known, _)| *known == kind).map(|(_, time)| *time).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// How likely a difference of the mean ranks as large as that of `times` is by chance alone.
fn permutation_p(times: &[(bool, Duration)]) -> f64 {
    let mut sorted: Vec<&(bool, Duration)> = times.iter().collect();
    sorted.sort_by_key(|(_, time)| *time);
    let mut kinds: Vec<bool> = sorted.into_iter().map(|(known, _)| *known).collect();
    let expected = (kinds.len() * (kinds.len() - 1)) as f64 / 4.0;
    let distance = |kinds: &[bool]| {
        let ranks = kinds.iter().enumerate().filter(|(_, known)| **known).map(|(rank, _)| rank);
        (ranks.sum::<usize>() as f64 - expected).abs()
    };
    let observed = distance(&kinds);
    let mut random = rand::rng();
    let as_large = (0..PERMUTATIONS)
        .filter(|_| {
            kinds.shuffle(&mut random);
            distance(&kinds) >= observed
        })
        .count();
    as_large as f64 / PERMUTATIONS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_test_tells_samples_apart() {
        let micros = Duration::from_micros;
        let same: Vec<_> = (0..400).map(|number| (number % 2 == 0, micros(number))).collect();
        assert!(permutation_p(&same) > 0.5);
        // A fifth of the known ones take longer than all others.
        let slower = |number: u64| if number.is_multiple_of(10) { number + 1000 } else { number };
        let shifted: Vec<_> =
            (0..400).map(|number| (number % 2 == 0, micros(slower(number)))).collect();
        assert!(permutation_p(&shifted) < 0.01);
        let apart: Vec<_> = (0..400).map(|number| (number < 150, micros(number))).collect();
        assert!(permutation_p(&apart) < 0.001);
    }
}
