//! What upstream gets wrong.

/// What is wrong with a broken record: an order that lacks something or says something impossible.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The payload ends in its middle.
    CutOff,
    /// The payload is empty.
    Empty,
    /// No event id.
    NoId,
    /// No time.
    NoTime,
    /// A time as people write it.
    BadTime,
    /// No member.
    NoMember,
    /// An empty member.
    EmptyMember,
    /// No order id.
    NoOrder,
    /// A negative amount.
    Negative,
    /// An amount finer than any currency.
    TooFine,
    /// An amount that is no amount.
    WrongKind,
    /// A currency that no shop pays in.
    WrongCurrency,
}

impl Fault {
    /// Every fault there is.
    pub(super) const ALL: [Fault; 12] = [
        Fault::CutOff,
        Fault::Empty,
        Fault::NoId,
        Fault::NoTime,
        Fault::BadTime,
        Fault::NoMember,
        Fault::EmptyMember,
        Fault::NoOrder,
        Fault::Negative,
        Fault::TooFine,
        Fault::WrongKind,
        Fault::WrongCurrency,
    ];

    /// Does to a whole payload what cannot be done while it is written.
    pub(super) fn spoil(self, payload: &mut Vec<u8>) {
        match self {
            Fault::CutOff => payload.truncate(payload.len() / 2),
            Fault::Empty => payload.clear(),
            _ => {}
        }
    }
}
