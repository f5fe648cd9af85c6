//! The cluster: versions, brokers and coordinators.

use bytes::{Buf, BufMut, BytesMut};
use ottla_mock::kafka_protocol::{messages::*, protocol::Decodable};

use crate::stage::{Stage, play, text};

#[tokio::test]
async fn versions_are_told_even_to_those_who_ask_in_an_unknown_one() {
    let script = async |stage: &mut Stage| {
        let line = stage.connect().await;
        let request =
            ApiVersionsRequest::default().with_client_software_name(text("tester")).with_client_software_version(text("1"));
        let invalid = request.clone().with_client_software_name(text("-"));
        let answer = stage.quietly(line, 3, &request).await;
        // The mock announces only what it serves, and not beyond what its codec knows: only these are the same, whatever that is.
        let mut told = ApiVersionsResponse::default();
        let known = |api: ApiKey| answer.api_keys.iter().find(|one| one.api_key == api as i16).cloned();
        told.api_keys = [ApiKey::Metadata, ApiKey::FindCoordinator, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat]
            .into_iter()
            .chain([
                ApiKey::LeaveGroup,
                ApiKey::CreateTopics,
                ApiKey::DeleteTopics,
                ApiKey::ApiVersions,
                ApiKey::OffsetForLeaderEpoch,
            ])
            .chain([
                ApiKey::Produce,
                ApiKey::Fetch,
                ApiKey::DescribeGroups,
                ApiKey::ConsumerGroupHeartbeat,
                ApiKey::TxnOffsetCommit,
            ])
            .chain([ApiKey::EndTxn, ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::DeleteRecords])
            .filter_map(known)
            .collect();
        stage.notes("ApiVersions v3", &told);
        stage.says("a name that is none");
        let refused = stage.quietly(line, 3, &invalid).await;
        stage.notes("ApiVersions v3", &ApiVersionsResponse::default().with_error_code(refused.error_code));
        stage.says("an unknown version is answered in version 0");
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(ApiKey::ApiVersions as i16);
        frame.put_i16(99);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.put_u8(0);
        stage.send_frame(line, frame).await;
        let mut frame = stage.frame(line).await;
        assert_eq!(frame.get_i32(), 7);
        let answer = ApiVersionsResponse::decode(&mut frame, 0).expect("version 0");
        stage.notes("ApiVersions v0", &answer);
    };
    let heard = r#"
        ApiVersions v3: {api_keys [{api_key 1, min_version 4, max_version 18}, {api_key 10, max_version 6}, {api_key 11, max_version 9}, {api_key 12, max_version 4}, {api_key 13, max_version 5}, {api_key 14, max_version 5}, {api_key 15, max_version 6}, {api_key 18, max_version 4}, {api_key 19, min_version 2, max_version 7}, {api_key 20, min_version 1, max_version 6}, {api_key 21, max_version 2}, {api_key 23, min_version 2, max_version 4}, {api_key 24, max_version 5}, {api_key 25, max_version 4}, {api_key 26, max_version 5}, {api_key 28, max_version 5}, {api_key 3, max_version 13}, {api_key 68, max_version 1}, {max_version 13}], finalized_features_epoch -1}
        # a name that is none
        ApiVersions v3: InvalidRequest {finalized_features_epoch -1}
        # an unknown version is answered in version 0
        ApiVersions v0: UnsupportedVersion {api_keys [{api_key 18, max_version 4}], finalized_features_epoch -1}
    "#;
    play("versions", script, heard).await;
}

#[tokio::test]
async fn coordinators_are_found_by_key() {
    let script = async |stage: &mut Stage| {
        let line = stage.connect().await;
        stage.group("found").await;
        stage.producer(line, "found").await;
        let by_key = |key: &str, kind| FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
        let by_keys = |keys: &[&str], kind| {
            let keys = keys.iter().map(|key| text(key)).collect();
            FindCoordinatorRequest::default().with_coordinator_keys(keys).with_key_type(kind)
        };
        stage.ask(line, 0, &by_key("found", 0)).await;
        stage.ask(line, 3, &by_key("found", 0)).await;
        stage.ask(line, 3, &by_key("found", 1)).await;
        stage.ask(line, 3, &by_key("", 0)).await;
        stage.ask(line, 3, &by_key("found", 7)).await;
        stage.ask(line, 4, &by_keys(&["found"], 0)).await;
        stage.ask(line, 6, &by_keys(&["found", "found-too"], 0)).await;
        stage.ask(line, 6, &by_keys(&["found"], 1)).await;
        stage.ask(line, 6, &by_keys(&[], 0)).await;
        stage.ask(line, 6, &by_keys(&[""], 0)).await;
        stage.ask(line, 6, &by_keys(&["found"], 7)).await;
    };
    let heard = r#"
        InitProducerId v4: {producer_id producer-1, ongoing_txn_producer_id -1, ongoing_txn_producer_epoch -1}
        FindCoordinator v0: {node_id 1}
        FindCoordinator v3: {node_id 1}
        FindCoordinator v3: {node_id 1}
        FindCoordinator v3: {node_id 1}
        FindCoordinator v3: InvalidRequest {node_id -1}
        FindCoordinator v4: {coordinators [{key found, node_id 1}]}
        FindCoordinator v6: {coordinators [{key found, node_id 1}, {key found-too, node_id 1}]}
        FindCoordinator v6: {coordinators [{key found, node_id 1}]}
        FindCoordinator v6: NONE
        FindCoordinator v6: {coordinators [{node_id 1}]}
        FindCoordinator v6: {coordinators [InvalidRequest {key found, node_id -1}]}
    "#;
    play("found", script, heard).await;
}
