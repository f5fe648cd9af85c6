//! Every API at every version, against `kafka_protocol`: what its encoder writes we read, and what we write its decoder reads.

mod answers;
mod conventions;
mod differential;
mod hostile;
mod peer;
mod requests;
mod versions;

use super::Api;

/// Every API at every version that ottla speaks.
fn every_version() -> impl Iterator<Item = (Api, i16)> {
    Api::ALL.into_iter().flat_map(|api| api.versions().map(move |version| (api, version)))
}
