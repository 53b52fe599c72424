//! Kafka's APIs, one file each, all of one shape: the view in, the decision, the response out. Their modules, and which
//! handles what, follow the table in `wire`, [`wire::for_each_api!`].
//!
//! To add one: docs/architecture.md, "To add an API", goes through all of it with one of these.

mod dispatch;
pub(crate) mod fetch_room;
mod resource;
pub(crate) mod session;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use net::{BoxedReply, FrameBytes, Reply};
use ring::buffer::Slice;
use ring::executor::yield_now;
use wire::{ApiKey, DecodeError, Reader, Request, RequestHeader, Response, TooLarge, decode_request_header};

pub(crate) use self::produce::AnswerMemory;
use crate::shard::Shard;

/// Topics and partitions that one request may name, together. A view costs nothing, but each is answered, and waited
/// for, on its own; ten times what a client of our largest cluster asks at once.
pub(crate) const ENTRIES_MAX: usize = 100_000;

/// What an answer may have beside records, in bytes: what is named twice is told twice, and some of it is large. Every
/// answer is held to it when it is encoded ([`Caller::reply`]).
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is left of an answer's bytes while it is put together, so that what would be refused is not made first. Of a
/// part it takes what it has in memory, which is never less than what it has in the frame.
pub(crate) struct AnswerBudget(usize);

impl AnswerBudget {
    /// A new answer.
    pub(crate) fn new() -> AnswerBudget {
        AnswerBudget(ANSWER_BYTES_MAX)
    }

    /// Takes what a part of the answer needs.
    ///
    /// # Errors
    /// [`Refused::AnswerTooLarge`].
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        self.0 = self.0.checked_sub(bytes).ok_or(Refused::AnswerTooLarge)?;
        Ok(())
    }
}

/// Steps of a request between which others may go first.
const STEPS_MAX: usize = 512;

/// What a request has done since others could go first: one that names much must not hold the shard for long.
#[derive(Default)]
pub(crate) struct Turn(usize);

impl Turn {
    /// It has done so many steps more, of about a microsecond; when they are enough, others go first.
    pub(crate) async fn took(&mut self, steps: usize) {
        self.0 = self.0.saturating_add(steps);
        if self.0 >= STEPS_MAX {
            self.0 = 0;
            yield_now().await;
        }
    }
}

/// What an answer that is still to come is waited for with.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the one that comes most often"
)]
pub(crate) enum Later {
    /// Of a Produce, the one that comes most often: it costs no box.
    Committing(produce::Committing),
    /// Of any other.
    Boxed(BoxedReply),
}

impl Future for Later {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        match &mut *self {
            Later::Committing(committing) => Pin::new(committing).poll(context),
            Later::Boxed(reply) => reply.as_mut().poll(context),
        }
    }
}

/// A request that was begun.
pub(crate) type Pending = net::Pending<Later>;

/// What a handler gives: the answer, now or later; or why the bytes are not a request.
pub(crate) type Handled = Result<Pending, Refused>;

/// Handles one request. Until its future ends, the connection's next request is not begun.
pub(crate) type Handler = fn(Rc<Shard>, Call) -> Pin<Box<dyn Future<Output = Handled>>>;

macro_rules! apis {
    ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
        $(mod $module;)*

        /// The handler of an API: `handle` of its module.
        fn handler(key: ApiKey) -> Handler {
            match key {
                $(ApiKey::$name => |shard, call| Box::pin($module::handle(shard, call)),)*
            }
        }
    };
}

wire::for_each_api!(apis);

/// Why a request closes its connection: the bytes are not what the protocol allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// They could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They name more than one request may.
    #[error("a request names {named} topics and partitions, more than {ENTRIES_MAX}")]
    TooMany {
        /// What it names.
        named: usize,
    },
    /// Its answer would be larger than one may be.
    #[error("a request asks for an answer of more than {ANSWER_BYTES_MAX} bytes")]
    AnswerTooLarge,
}

impl Refused {
    /// The connection ends with it.
    pub(crate) fn close(self) -> Reply {
        Reply::Close(self.to_string())
    }
}

/// A request, as the frame hands it to a handler: its header was read and its version is one that we speak.
pub(crate) struct Call {
    /// The version of the request, and of the answer.
    pub(crate) version: i16,
    correlation_id: i32,
    client: IpAddr,
    frame: Slice,
    body_at: usize,
}

impl Call {
    /// The request's body, as a view of the frame.
    pub(crate) fn body<'a, T: Request<'a>>(&'a self) -> Result<T, DecodeError> {
        T::decode(Reader::new(&self.frame[self.body_at..]), self.version)
    }

    /// The client's name for itself.
    pub(crate) fn client_id(&self) -> Option<&str> {
        let header: Option<RequestHeader<'_>> =
            decode_request_header(&self.frame).ok().map(|(header, _)| header);
        header.and_then(|header| header.client_id)
    }

    /// The client's host, as Java prints an address.
    pub(crate) fn client_host(&self) -> String {
        java_address(self.client)
    }

    /// What is left of the request once its bytes are not needed any more.
    pub(crate) fn into_caller(self) -> Caller {
        Caller {
            version: self.version,
            correlation_id: self.correlation_id,
        }
    }

    /// The answer, at once.
    pub(crate) fn ready(self, response: &impl Response) -> Handled {
        Ok(Pending::Ready(self.into_caller().frame(response)?))
    }
}

/// An address as Java prints it: all eight parts of one of version 6, and one of version 4 that is mapped as itself.
fn java_address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let parts = address.segments().map(|part| format!("{part:x}"));
            format!("/{}", parts.join(":"))
        }
    }
}

/// To whom a late answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The version of the answer.
    pub(crate) version: i16,
    /// The request's number.
    pub(crate) correlation_id: i32,
}

impl Caller {
    /// The answer's frame; or the end of the connection, if it would be larger than one may be.
    pub(crate) fn reply(self, response: &impl Response) -> Reply {
        self.frame(response).unwrap_or_else(Refused::close)
    }

    fn frame(self, response: &impl Response) -> Result<Reply, Refused> {
        let frame = response.encode_within(ANSWER_BYTES_MAX, self.version, self.correlation_id);
        let frame = frame.map_err(|TooLarge| Refused::AnswerTooLarge)?;
        Ok(Reply::Bytes(FrameBytes::from_vec(frame)))
    }
}

/// An answer that is waited for while the connection's later requests are begun, for a time that we bound.
///
/// It is polled when the answers before it were given, and that may be never: a client that does not read stops its
/// own. So across an await it holds nothing that others need (a permit, a place in a line), or it asks a task of its
/// own to do that part; and what must happen anyway is a task's too.
pub(crate) fn later(answer: impl Future<Output = Reply> + 'static) -> Handled {
    Ok(Pending::Later(Later::Boxed(Box::pin(answer))))
}

/// The same, for what the connection's earlier requests may change: it is read when they were answered, as by Kafka, which
/// begins a request when that is so. Those behind it may have been begun by then.
pub(crate) fn in_turn(answer: impl Future<Output = Result<Reply, Refused>> + 'static) -> Handled {
    later(async move { answer.await.unwrap_or_else(Refused::close) })
}

/// The same, if it may take as long as the client says: what it keeps of the request has a bound of its own.
pub(crate) fn long_poll(answer: impl Future<Output = Reply> + 'static) -> Handled {
    Ok(Pending::LongPoll(Later::Boxed(Box::pin(answer))))
}

/// Refuses a request that names too much.
pub(crate) fn bound_entries(counts: impl Iterator<Item = usize>) -> Result<(), Refused> {
    let named = counts.fold(0usize, usize::saturating_add);
    if named > ENTRIES_MAX {
        return Err(Refused::TooMany { named });
    }
    Ok(())
}

/// A topic id in Kafka's form.
pub(crate) fn uuid(id: u128) -> wire::Uuid {
    wire::Uuid(id.to_be_bytes())
}

/// A topic id in ours.
pub(crate) fn topic_id(uuid: wire::Uuid) -> u128 {
    u128::from_be_bytes(uuid.0)
}

#[cfg(test)]
mod tests {
    use wire::API_TABLE;

    use super::*;

    #[test]
    fn every_api_has_its_row_in_the_docs() {
        let docs = include_str!("../../../docs/protocol.md");
        for api in API_TABLE {
            let row = format!(
                "| {} | {} | {}-{} | ",
                api.key.code(),
                api.name,
                api.min_version,
                api.max_version
            );
            assert!(docs.contains(&row), "docs/protocol.md lacks the row {row}");
        }
    }

    #[test]
    fn a_request_that_names_too_much_is_refused() {
        assert_eq!(bound_entries([ENTRIES_MAX].into_iter()), Ok(()));
        let named = ENTRIES_MAX + 1;
        assert_eq!(
            bound_entries([ENTRIES_MAX, 1].into_iter()),
            Err(Refused::TooMany { named })
        );
        assert!(bound_entries([usize::MAX, usize::MAX].into_iter()).is_err());
    }

    #[test]
    fn an_answer_that_would_be_too_large_is_refused() {
        let mut budget = AnswerBudget::new();
        assert_eq!(budget.take(ANSWER_BYTES_MAX), Ok(()));
        assert_eq!(budget.take(1), Err(Refused::AnswerTooLarge));
        assert!(AnswerBudget::new().take(usize::MAX).is_err());
    }

    #[test]
    fn addresses_are_printed_as_java_does() {
        for (address, printed) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::ffff:10.0.0.7", "/10.0.0.7"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("fe80::1:abcd", "/fe80:0:0:0:0:0:1:abcd"),
        ] {
            assert_eq!(java_address(address.parse().expect("an address")), printed);
        }
    }

    #[test]
    fn no_answer_is_larger_than_one_may_be_whatever_its_handler_counts() {
        use wire::messages::describe_groups::{DescribeGroupsResponse, DescribedGroup};
        let caller = Caller {
            version: 0,
            correlation_id: 1,
        };
        let of = |groups: usize| {
            let group = DescribedGroup {
                group_id: "g".repeat(1 << 14),
                ..DescribedGroup::default()
            };
            caller.reply(&DescribeGroupsResponse {
                groups: vec![group; groups],
                ..DescribeGroupsResponse::default()
            })
        };
        let Reply::Bytes(frame) = of(4_000) else {
            panic!("there is room for it");
        };
        assert!(frame.len() > 4_000 << 14);
        assert!(matches!(of(4_100), Reply::Close(why) if why == Refused::AnswerTooLarge.to_string()));
    }

    #[test]
    fn others_go_first_from_time_to_time() {
        use std::task::{Context, Waker};
        let mut context = Context::from_waker(Waker::noop());
        let mut turn = Turn::default();
        let mut yields = |steps| std::pin::pin!(turn.took(steps)).poll(&mut context).is_pending();
        assert!(!yields(STEPS_MAX - 1));
        assert!(yields(1));
        assert!(!yields(1), "not each time");
        assert!(yields(usize::MAX));
    }

    #[test]
    fn topic_ids_keep_their_bytes() {
        let bytes: [u8; 16] = std::array::from_fn(|index| index as u8);
        assert_eq!(uuid(topic_id(wire::Uuid(bytes))), wire::Uuid(bytes));
    }
}
