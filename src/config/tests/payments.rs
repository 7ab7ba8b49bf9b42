use super::*;
use crate::domain::payment::PaymentMethod;

const KEY: (&str, &str) = ("SOUK__PAYMENTS__STRIPE__SECRET_KEY", "sk_test_hush");
const SECRET: (&str, &str) = ("SOUK__PAYMENTS__STRIPE__WEBHOOK_SECRET", "whsec_hush");
const DEFAULT: (&str, &str) = ("SOUK__PAYMENTS__DEFAULT", "stripe");

#[test]
fn staff_confirms_payments_by_default() {
    let payments = SettingsFixture::new().load().payments;
    assert_eq!(payments.default_payment_method(), PaymentMethod::Manual);
    assert!(payments.stripe.secret_key.is_none());
    assert_eq!(payments.stripe.api_base, "https://api.stripe.com");
    let payments = from_env(&[KEY, SECRET, DEFAULT]).load().payments;
    assert_eq!(payments.default_payment_method(), PaymentMethod::Stripe);
}

#[test]
fn stripe_needs_its_secrets() {
    let message = from_env(&[DEFAULT]).load_error();
    let expected = "payments.default (SOUK__PAYMENTS__DEFAULT): is stripe, which needs \
                    payments.stripe.secret_key";
    assert_eq!(message, expected);
    let message = from_env(&[KEY]).load_error();
    let expected = "payments.stripe.webhook_secret: is required with payments.stripe.secret_key";
    assert_eq!(message, expected);
    let message = from_env(&[("SOUK__PAYMENTS__DEFAULT", "cheque")]).load_error();
    assert_eq!(message, "payments.default (SOUK__PAYMENTS__DEFAULT): is not manual or stripe");
}

#[test]
fn api_base_is_scheme_host_and_port() {
    const BASE: &str = "SOUK__PAYMENTS__STRIPE__API_BASE";
    for good in ["http://127.0.0.1:8420", "https://stripe.example/"] {
        from_env(&[(BASE, good)]).load();
    }
    for wrong in ["127.0.0.1:8420", "ftp://stripe.example", "https://stripe.example/v1", ""] {
        let message = from_env(&[(BASE, wrong)]).load_error();
        assert!(message.starts_with("payments.stripe.api_base (SOUK__"), "{message}");
    }
}
