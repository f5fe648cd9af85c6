//! Where the time goes, and what to choose when.
//!
//! `cargo xtask bench` prints what reading costs on your machine, as ratios to a loop that only fetches, compares checksums and walks over
//! the records' lengths, and to other people's clients; the README has such a table. This page tells what is behind it.
//!
//! # Where each nanosecond goes
//!
//! For a record of 100 bytes, uncompressed, measured within the process (best of many, one machine; the ratios are what to trust):
//!
//! | step | ns | whose |
//! |---|---|---|
//! | CRC-32C of its batch | 6 | switched off with `verify_crc(false)`; then what TCP's checksum did not see goes unseen |
//! | decoding, sixteen records at a time | 7 | |
//! | handing over, with a reference count up and down | 9 | `Delivery`, `Record`; a batch pays it once |
//! | the ack: one byte is written | 1 | `Delivery::ack`; a batch pays it once |
//!
//! Beside it the system copies the bytes out of the socket, which no client can read without.
//!
//! Records are not copied: key, value and headers are slices of the answer that they came in. A number in a record is decoded when it is
//! asked for, as are its time and its headers.
//!
//! # What made it so
//!
//! * **A record's state stays in registers.** A cursor in memory makes each record wait for the stores of the one before, and a result that
//!   may be a record or an error is copied in pieces that the next copy has to wait for. So records are decoded in blocks, errors come apart
//!   from records, and what must stand in memory as a whole (what a dropped delivery owes) is 16 bytes. Together that was worth twice what
//!   all atomic operations cost.
//! * **An ordinary record needs one comparison with the end of its bytes.** Where its fields say it ends, its length must say so too.
//! * **The next record is made where it is awaited.** Behind a call it comes back through memory, written in other pieces than it is read
//!   in, and waits there for as long as decoding takes.
//! * **An ack is a byte of its own.** A bit would need an atomic read-modify-write.
//! * **A batch is decoded by whoever goes through it.** That it can be read to its end is looked at when it is let go of, and only if
//!   nobody found out.
//! * **The core is told of many chunks at once.** It looks at every partition's timers when it is told something; a Fetch for a thousand
//!   partitions brings a thousand chunks.
//! * **What is counted over all partitions is not counted for each chunk.**
//! * **What lies unread is read over several connections.** A broker answers one request of a connection at a time. While it looks for the
//!   next records of some partitions, those of others come in; with a single connection either side would wait for the other half the time.
//!   One more connection waits for new records, and is the only one as long as there is nothing else to do. Brokers that are read at the same
//!   time take turns by themselves, and one connection to each does, the one that waits: three brokers with two or three each brought more at
//!   once than was worked on, which cost a tenth more CPU for batches, a third more memory, and came no sooner. On two cores one broker is
//!   enough to keep a client at work all the time, so three bring no more; how much the brokers themselves take for it is in the tables, too.
//! * **A Fetch names what it can bring, and what has nothing to read.** Of a thousand partitions that are behind, each asked for a little, a
//!   broker sends the thousand beginnings of batches, and the cut-off ends of them a second time. So few are asked for at once, in turn, each
//!   for much.
//! * **At most once, one commit releases what several partitions have.**
//! * **Buffers are used again.** The system zeroes fresh pages, which costs more than copying a record into used ones.
//!
//! # What to choose
//!
//! * **`batches()`** where each record is little work: into a file, a database, another log. One ack and one reference count
//!   for each batch; a batch that fails comes again as a whole. Go through it once and to its end: asked for its length before, or acked
//!   unread, it is decoded for that.
//! * **`at_least_once()`** where records fail one by one, or are worked on by several tasks.
//! * **`at_most_once()`** costs about as much as the latter, and waits for a commit now and then: the faster the records are taken, the
//!   more rarely.
//! * **`manual()`** waits for a commit as often as you ask for one. With hundreds of partitions, a commit for each batch of each partition
//!   costs more than reading: commit less often.
//! * **A task for each record costs 300 to 600 ns**, more than reading it. Use a task for each partition (`partitions()`) or batch.
//! * **Kept deliveries are dear**: each keeps the whole answer that it came in, up to megabytes. To keep records for long, keep what
//!   `to_owned_record()` returns. `stats().pinned_bytes` tells how much is kept.
//! * **1 MiB per partition and Fetch** (the default of `partition_fetch_bytes_max`) is best: a few of these stay in the processor's cache
//!   between the copy, the checksum and the decoding; larger ones do not.
//! * **A current-thread runtime** saves the wake-ups between threads; a multi-threaded one lets records be worked on while others are read.
