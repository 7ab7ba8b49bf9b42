//! Was it linearizable? Decided from what clients have asked and been told, and when.
//!
//! Every change has a version, so the order in which things must have happened need not be guessed. What is checked is that it is the
//! order clients saw: what was known to be done before a question was asked comes before it, and each answer is what those before
//! it leave. A change whose outcome is unknown may have happened once, at any time after it was asked for, or never.

pub(crate) mod carts;
pub(crate) mod stock;
mod tests;

/// When an operation was asked for and when it was answered, on one clock for all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl Span {
    /// The same beginning, and no end: it may happen at any time.
    const fn open(self) -> Self {
        Self { ended: u64::MAX, ..self }
    }
}

/// What a client knows of its change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome<T> {
    /// It was made; what the answer showed.
    Done(T),
    /// It was certainly not made.
    Refused,
    /// Either.
    Unknown,
}

/// Something that happened at a place in the order of all things.
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

/// Nothing is placed before what had ended when it began.
fn in_real_time(placed: &[Placed]) -> Result<(), String> {
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
            return Err(format!(
                "{one:?} began when {before:?} had ended, and yet comes before it"
            ));
        }
    }
    Ok(())
}
