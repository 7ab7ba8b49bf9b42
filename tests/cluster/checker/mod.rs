//! Checks that a history is linearizable, from the requests and responses of clients and their
//! times.
//!
//! Every change has a version, so the order of changes is known. The checker verifies that this
//! order respects real time and that each response is the result of all changes before it. A change
//! with an unknown outcome may apply once, at any time after its request, or never.

pub(crate) mod carts;
pub(crate) mod stock;
mod tests;

/// When an operation began and ended, on one clock for all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl Span {
    /// The same beginning without an end: the operation may apply at any later time.
    const fn open(self) -> Self {
        Self { ended: u64::MAX, ..self }
    }
}

/// What a client knows about its change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome<T> {
    /// Applied, with the response.
    Done(T),
    /// Certainly not applied.
    Refused,
    /// Either applied or not.
    Unknown,
}

/// An operation at its place in the total order.
#[derive(Debug, Clone, Copy)]
struct Placed {
    span: Span,
    place: Place,
}

/// The change with this number, or a read that saw everything up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: u64,
    is_read: bool,
}

const fn change(span: Span, number: u64) -> Placed {
    Placed { span, place: Place { number, is_read: false } }
}

const fn read(span: Span, number: u64) -> Placed {
    Placed { span, place: Place { number, is_read: true } }
}

/// Asserts that no operation is placed before one that ended before it began.
fn check_real_time_order(placed: &[Placed]) -> Result<(), String> {
    let (mut begun, mut ended) = (placed.to_vec(), placed.to_vec());
    begun.sort_by_key(|one| one.span.begun);
    ended.sort_by_key(|one| one.span.ended);
    let mut ended = ended.into_iter().peekable();
    let mut newest: Option<Placed> = None;
    for one in begun {
        while let Some(before) = ended.next_if(|other| other.span.ended < one.span.begun) {
            newest = newest.filter(|newest| newest.place > before.place).or(Some(before));
        }
        if let Some(before) = newest.filter(|before| before.place > one.place) {
            return Err(format!("{one:?} began when {before:?} had ended, but comes before it"));
        }
    }
    Ok(())
}
