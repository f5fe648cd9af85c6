//! Limits: how much a broker, or another member of the group, can make ottla do.
//!
//! What comes by the network is not trusted. No length and no count is believed before it was compared with the bytes that are there;
//! where those do not bound what is made of them, one of these limits does. What is beyond a limit is an error that names it, never a
//! panic and never a guess.
//!
//! | what | limit | set by | beyond it |
//! |---|---|---|---|
//! | one answer (a frame), of each connection | 256 MiB | fixed | the connection ends and rests; told as [`Protocol`], or [`Incompatible`] where nothing has made sense yet |
//! | memory for an answer, before its bytes come | 1 MiB, then as much again as has come | fixed | it is taken as the bytes come |
//! | time for an answer, however slowly it comes | 30 s | [`request_timeout`] | the connection ends, the request is made again |
//! | requests that wait for one connection | 256 | fixed | the next is not sent, and tried again later |
//! | entries in all lists of one answer together | 1,000,000 | fixed | the answer is malformed |
//! | a text in an answer | 32,767 bytes, as of old | fixed | the answer is malformed |
//! | a broker's host name | 255 bytes, no control characters | fixed | the answer is malformed |
//! | nesting | as deep as the message's definition; nothing recurs | fixed | |
//! | partitions in an assignment, or in a subscription | 100,000 | fixed | the assignment is not taken; the subscription counts as empty |
//! | topics in a subscription | 100,000 | fixed | the subscription counts as empty |
//! | topics that all members want together, as the leader sees it | 1,000,000 | fixed | who wants more is assigned nothing |
//! | a topic's name | 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..` | fixed | [`subscribe`] refuses it; in another member's subscription it is left out |
//! | partitions of a topic | as many as the answer names, numbered from 0 without a gap | fixed | other numbers are not believed |
//! | bytes fetched and not yet taken | 64 MiB, and beyond it one batch of each partition at most | [`buffer_bytes_max`] | nothing more is fetched |
//! | aborted transactions kept with what was fetched | one for each batch | fixed | the others have no effect |
//! | records in a batch | what its bytes can hold, at 7 bytes for each | fixed | the partition stops, told as [`Corrupt`] |
//! | one batch, decompressed | 64 MiB | [`decompressed_batch_bytes_max`] | the partition stops at that offset, told as [`Corrupt`] |
//! | memory to decompress it | twice that limit, and 1 MiB | | |
//! | records handed out and not acknowledged | 1,000,000 | [`unacked_records_max`] | the stream says so, and waits |
//! | how long a broker's quota may hold back what is asked of it | 30 s | fixed | it is asked all the same |
//! | how often anything is tried again | with a back-off, up to 1 s or more | fixed | |
//! | a broker's own words in an error | 1,000 characters | fixed | cut off; control characters become spaces |
//!
//! An entry (a partition, a member, a broker) takes up to some 250 bytes in memory, and never less than one on the wire. So a small answer
//! takes at most about 64 times its length to decode, and none takes more than its length and 250 MB.
//!
//! **Not bounded here:** how many brokers there are. A consumer has at most two connections to each broker that leads a partition of its
//! own, and up to [`catch_up_connections`] more while there is much to read there; and one to its coordinator. A cluster that names a thousand
//! leaders is connected to a thousand times.
//!
//! [`Protocol`]: crate::ConsumeErrorKind::Protocol
//! [`Incompatible`]: crate::ConsumeErrorKind::Incompatible
//! [`Corrupt`]: crate::ConsumeErrorKind::Corrupt
//! [`request_timeout`]: crate::ConsumerBuilder::request_timeout
//! [`catch_up_connections`]: crate::ConsumerBuilder::catch_up_connections
//! [`subscribe`]: crate::ConsumerBuilder::subscribe
//! [`buffer_bytes_max`]: crate::ConsumerBuilder::buffer_bytes_max
//! [`decompressed_batch_bytes_max`]: crate::ConsumerBuilder::decompressed_batch_bytes_max
//! [`unacked_records_max`]: crate::ConsumerBuilder::unacked_records_max
