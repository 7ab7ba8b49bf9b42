//! Webhooks.
use std::time::Duration;

use super::{SettingsFixture, from_env};

const HOUR: u64 = 60 * 60;

#[test]
fn defaults_are_those_of_the_contract() {
    let webhooks = SettingsFixture::new().load().webhooks;
    let waits: Vec<u64> = webhooks.retry_schedule.iter().map(|wait| wait.as_secs()).collect();
    let hours = [2, 5, 10, 14, 20, 24].map(|hours| hours * HOUR);
    assert_eq!(waits, [&[5, 300, 1800][..], &hours].concat());
    assert_eq!(webhooks.timeout, Duration::from_secs(15));
    assert_eq!(webhooks.rotation_overlap, Duration::from_secs(24 * HOUR));
    assert_eq!(webhooks.pause_after, Duration::from_secs(5 * 24 * HOUR));
    assert!(!webhooks.allow_private && webhooks.ca_file.is_none());
}

#[test]
fn environment_sets_every_key() {
    let settings = from_env(&[
        ("SOUK__WEBHOOKS__TIMEOUT", "3s"),
        ("SOUK__WEBHOOKS__RETRY_SCHEDULE", "1s, 2d"),
        ("SOUK__WEBHOOKS__ROTATION_OVERLAP", "0s"),
        ("SOUK__WEBHOOKS__PAUSE_AFTER", "2d"),
        ("SOUK__WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("SOUK__WEBHOOKS__CA_FILE", "/etc/ca.pem"),
    ])
    .load();
    let webhooks = &settings.webhooks;
    assert_eq!(webhooks.retry_schedule[1], Duration::from_secs(48 * HOUR));
    assert_eq!(webhooks.pause_after, Duration::from_secs(48 * HOUR));
    assert_eq!(
        (webhooks.timeout, webhooks.rotation_overlap),
        (Duration::from_secs(3), Duration::ZERO)
    );
    let warns = |warning: &String| warning.starts_with("webhooks.allow_private: ");
    assert!(settings.warnings().iter().any(warns));
    assert!(!SettingsFixture::new().load().warnings().iter().any(warns));
}

#[test]
fn values_out_of_range_are_rejected() {
    for (variable, value, key) in [
        ("SOUK__WEBHOOKS__TIMEOUT", "0s", "webhooks.timeout"),
        ("SOUK__WEBHOOKS__TIMEOUT", "61s", "webhooks.timeout"),
        ("SOUK__WEBHOOKS__RETRY_SCHEDULE", "5s,9000h", "webhooks.retry_schedule"),
        ("SOUK__WEBHOOKS__ROTATION_OVERLAP", "400d", "webhooks.rotation_overlap"),
        ("SOUK__WEBHOOKS__PAUSE_AFTER", "0s", "webhooks.pause_after"),
        ("SOUK__WEBHOOKS__ALLOW_PRIVATE", "perhaps", "webhooks.allow_private"),
    ] {
        let message = from_env(&[(variable, value)]).load_error();
        assert!(message.starts_with(&format!("{key} ({variable}): ")), "{message}");
    }
}
