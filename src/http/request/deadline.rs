//! The time in which a request has to be answered.

use std::time::{Duration, Instant};

use actix_web::{HttpMessage, HttpRequest};

/// When a request has to be answered, whatever has to be waited for on the way. The time that its body takes to arrive does not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// So much from now.
    pub(crate) fn from_timeout(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// How long there is until `request` has to be answered, if that was settled.
    pub(crate) fn remaining(request: &HttpRequest) -> Option<Duration> {
        request
            .extensions()
            .get::<Self>()
            .map(|due| due.0.saturating_duration_since(Instant::now()))
    }

    /// Gives `request` the time back that its caller has taken to send it.
    pub(super) fn extend(request: &HttpRequest, taken: Duration) {
        if let Some(due) = request.extensions_mut().get_mut::<Self>() {
            due.0 += taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn body_upload_time_extends_deadline() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let request = TestRequest::default().to_http_request();
        assert_eq!(Deadline::remaining(&request), None);
        request.extensions_mut().insert(Deadline(Instant::now() + minute));
        let left = Deadline::remaining(&request).unwrap();
        assert!(
            left <= minute && Deadline::remaining(&request).unwrap() <= left,
            "it comes nearer"
        );
        Deadline::extend(&request, hour);
        assert!((hour..=hour + minute).contains(&Deadline::remaining(&request).unwrap()));
        request.extensions_mut().insert(Deadline(Instant::now()));
        assert_eq!(Deadline::remaining(&request), Some(Duration::ZERO));
    }
}
