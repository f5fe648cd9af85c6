//! A request as it comes off a connection.

use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, RequestKind},
    protocol::Decodable,
};

use super::{
    api::{self, Release},
    call::{Call, Fate},
    message::ConnId,
    shape,
};

/// Reads a request, and says what no broker of this release would understand.
pub(super) fn read(conn: ConnId, broker: i32, release: Release, mut frame: Bytes) -> Result<(Call, RequestKind), String> {
    let Some(&[a, b, c, d]) = frame.first_chunk::<4>() else { return Err("a request shorter than its header".to_owned()) };
    let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let api = ApiKey::try_from(key).map_err(|()| format!("API {key} does not exist"))?;
    let Some((oldest, newest)) = api::versions(api, release) else { return Err(format!("{api:?} was not announced")) };
    // A newer ApiVersions is answered in the oldest form, for the client to learn what there is.
    let is_known = (oldest..=newest).contains(&version) || api == ApiKey::ApiVersions;
    if !is_known {
        return Err(format!("{api:?} version {version} was not announced: {oldest} to {newest} were"));
    }
    let header_version = api.request_header_version(version);
    let checked = if (oldest..=newest).contains(&version) {
        shape::check(api, version, &frame)
    } else {
        shape::check_header(header_version, &frame)
    };
    checked.map_err(|error| format!("{api:?} version {version}: {error}"))?;
    let header = RequestHeader::decode(&mut frame, header_version)
        .map_err(|error| format!("the header of {api:?} version {version}: {error:#}"))?;
    let request = if (oldest..=newest).contains(&version) {
        let request =
            RequestKind::decode(api, &mut frame, version).map_err(|error| format!("{api:?} version {version}: {error:#}"))?;
        if frame.has_remaining() {
            return Err(format!("{} bytes too many in {api:?} version {version}", frame.remaining()));
        }
        request
    } else {
        RequestKind::ApiVersions(Default::default())
    };
    let call = Call {
        conn,
        broker,
        api,
        version,
        client_id: header.client_id,
        throttle_time_ms: 0,
        correlation_id: header.correlation_id,
        fate: Fate::Sent,
    };
    Ok((call, request))
}
