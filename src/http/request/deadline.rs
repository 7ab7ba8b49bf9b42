//! The deadline of a request.

use std::time::{Duration, Instant};

use actix_web::{HttpMessage, HttpRequest};

/// The time by which a request must be answered. The upload time of its body does not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// A deadline that is `time` from now.
    pub(crate) fn from_timeout(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The time that is left for `request`; `None` if it has no deadline.
    pub(crate) fn remaining(request: &HttpRequest) -> Option<Duration> {
        request
            .extensions()
            .get::<Self>()
            .map(|deadline| deadline.0.saturating_duration_since(Instant::now()))
    }

    /// Extends the deadline of `request` by the time that its upload has taken.
    pub(super) fn extend(request: &HttpRequest, taken: Duration) {
        if let Some(deadline) = request.extensions_mut().get_mut::<Self>() {
            deadline.0 += taken;
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
            "the deadline approaches"
        );
        Deadline::extend(&request, hour);
        assert!((hour..=hour + minute).contains(&Deadline::remaining(&request).unwrap()));
        request.extensions_mut().insert(Deadline(Instant::now()));
        assert_eq!(Deadline::remaining(&request), Some(Duration::ZERO));
    }
}
