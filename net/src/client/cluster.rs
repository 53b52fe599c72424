//! A cluster as a client sees it: its nodes, what they speak, who leads what.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use wire::schema::Decode;
use wire::{ApiKey, Array, ErrorCode, Request, Response};

use super::{ClientError, Connection, ConnectionOptions};

/// Kafka's port.
const DEFAULT_PORT: u16 = 9092;

/// Finds the address of a host name and port, or says why not.
pub type Resolve = fn(&str, u16) -> Result<SocketAddr, String>;

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Of every connection.
    pub connection: ConnectionOptions,
    /// Finds addresses. It may block its thread: give [`resolve_literal`] where that matters.
    pub resolve: Resolve,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connection: ConnectionOptions::default(),
            resolve: resolve_literal,
        }
    }
}

/// Knows IP addresses and `localhost`, and asks nobody.
///
/// # Errors
/// For any other name.
pub fn resolve_literal(host: &str, port: u16) -> Result<SocketAddr, String> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let address: Result<IpAddr, _> = host.parse();
    address
        .map(|address| SocketAddr::from((address, port)))
        .map_err(|_| "it is neither an IP address nor localhost".to_owned())
}

/// A cluster. Clones share what is known, and one connection for each node.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    options: ClientOptions,
    bootstrap: Vec<String>,
    known: RefCell<Known>,
}

/// What the client has learned. Bounded by the cluster's own metadata, in frames of `answer_bytes_max`.
#[derive(Default)]
struct Known {
    controller_id: i32,
    addresses: BTreeMap<i32, (String, u16)>,
    links: BTreeMap<i32, Link>,
    /// Of each topic, the leader of each partition, or why there is none.
    leaders: BTreeMap<String, BTreeMap<i32, Result<i32, ErrorCode>>>,
}

/// A connection, and the versions that its node speaks, by API key.
#[derive(Clone)]
struct Link {
    connection: Connection,
    versions: Rc<BTreeMap<i16, (i16, i16)>>,
}

impl Client {
    /// Connects to the first of `bootstrap` (`host:port`, or `host` for port 9092) that answers, and learns the nodes.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if none does.
    pub async fn connect(bootstrap: &[String], options: ClientOptions) -> Result<Client, ClientError> {
        let client = Client {
            shared: Rc::new(Shared {
                options,
                bootstrap: bootstrap.to_vec(),
                known: RefCell::default(),
            }),
        };
        client.metadata(Some(&[]), false).await?;
        Ok(client)
    }

    /// The nodes, by their ids: host and port as they are advertised.
    pub fn nodes(&self) -> BTreeMap<i32, (String, u16)> {
        self.shared.known.borrow().addresses.clone()
    }

    /// The newest version of an API that the node and we both speak.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] if there is none, and those of [`Client::node`].
    pub async fn version(&self, node_id: i32, api: ApiKey) -> Result<i16, ClientError> {
        self.link(node_id).await?.version(api)
    }

    /// Asks for fresh metadata of these topics (`None`: all), remembers it, and gives it as it came: errors of topics
    /// are inside.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if no node and no bootstrap address answers.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        allow_auto_topic_creation: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let link = self.any_link().await?;
        let topics: Option<Vec<_>> = topics.map(|names| {
            let named = names.iter().map(|&name| MetadataRequestTopic {
                name: Some(name),
                ..MetadataRequestTopic::default()
            });
            named.collect()
        });
        let request = MetadataRequest {
            topics: topics.as_deref().map(Array::from_slice),
            allow_auto_topic_creation,
            ..MetadataRequest::default()
        };
        let version = link.version(ApiKey::Metadata)?;
        let response: MetadataResponse = link.connection.call(version, &request).await?;
        self.learn(&response, link);
        Ok(response)
    }

    /// The node that leads a partition, from what is remembered, or from fresh metadata.
    ///
    /// # Errors
    /// [`ClientError::Partition`] with Kafka's code if it has none; those of [`Client::metadata`].
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        if let Some(Ok(leader)) = self.known_leader(topic, partition) {
            return Ok(leader);
        }
        let response = self.metadata(Some(&[topic]), false).await?;
        let error = |partition, code| ClientError::Partition {
            topic: topic.to_owned(),
            partition,
            code,
        };
        if let Some(refused) = response.topics.iter().find(|topic| topic.error_code.is_error()) {
            return Err(error(-1, refused.error_code));
        }
        match self.known_leader(topic, partition) {
            Some(Ok(leader)) => Ok(leader),
            Some(Err(code)) => Err(error(partition, code)),
            None => Err(error(partition, ErrorCode::UnknownTopicOrPartition)),
        }
    }

    /// Forgets who leads the partitions of a topic: after NOT_LEADER_OR_FOLLOWER and the like.
    pub fn forget(&self, topic: &str) {
        let forgotten = self.shared.known.borrow_mut().leaders.remove(topic);
        drop(forgotten);
    }

    /// The connection to a node, made anew if the last one ended.
    ///
    /// # Errors
    /// If the node is unknown or cannot be reached.
    pub async fn node(&self, node_id: i32) -> Result<Connection, ClientError> {
        Ok(self.link(node_id).await?.connection)
    }

    /// The controller as Metadata names it, or any node if it names none: its id, and the connection to it.
    ///
    /// # Errors
    /// Those of [`Client::node`].
    pub async fn controller(&self) -> Result<(i32, Connection), ClientError> {
        let node_id = {
            let known = self.shared.known.borrow();
            let named = Some(known.controller_id).filter(|id| known.addresses.contains_key(id));
            named.or_else(|| known.addresses.keys().next().copied())
        };
        let node_id = node_id.unwrap_or(BOOTSTRAP);
        Ok((node_id, self.node(node_id).await?))
    }

    /// Asks the controller, in the newest version that both speak.
    ///
    /// # Errors
    /// Those of [`Client::controller`], [`Client::version`] and of the connection.
    pub async fn call_controller<'a, Q, A>(&self, request: &Q) -> Result<A, ClientError>
    where
        Q: Request<'a>,
        A: Response + for<'b> Decode<'b>,
    {
        let (node_id, connection) = self.controller().await?;
        let version = self.version(node_id, Q::API_KEY).await?;
        connection.call(version, request).await
    }

    /// Asks a node, in the newest version that both speak.
    ///
    /// # Errors
    /// Those of [`Client::version`] and of the connection.
    pub async fn call_node<'a, Q, A>(&self, node_id: i32, request: &Q) -> Result<A, ClientError>
    where
        Q: Request<'a>,
        A: Response + for<'b> Decode<'b>,
    {
        let version = self.version(node_id, Q::API_KEY).await?;
        self.node(node_id).await?.call(version, request).await
    }

    fn known_leader(&self, topic: &str, partition: i32) -> Option<Result<i32, ErrorCode>> {
        let known = self.shared.known.borrow();
        known.leaders.get(topic)?.get(&partition).copied()
    }

    /// Remembers what Metadata said; `link` is the one that it came from.
    fn learn(&self, response: &MetadataResponse, link: Link) {
        let mut known = self.shared.known.borrow_mut();
        known.controller_id = response.controller_id;
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id, (broker.host.clone(), port)))
        });
        known.addresses = brokers.collect();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            let leaders = topic.partitions.iter().map(|partition| {
                let leader = match partition.error_code {
                    code if code.is_error() && partition.leader_id < 0 => Err(code),
                    _ if partition.leader_id < 0 => Err(ErrorCode::LeaderNotAvailable),
                    _ => Ok(partition.leader_id),
                };
                (partition.partition, leader)
            });
            known.leaders.insert(name.clone(), leaders.collect());
        }
        // The bootstrap connection leads to one of the nodes: no need for a second one.
        let address = link.connection.address();
        let node = known.addresses.iter().find_map(|(&node_id, (host, port))| {
            let its = (self.shared.options.resolve)(host, *port).ok()?;
            (its == address).then_some(node_id)
        });
        let key = node.unwrap_or(BOOTSTRAP);
        let Known { links, addresses, .. } = &mut *known;
        links.retain(|node_id, link| {
            link.connection.is_open() && (*node_id == BOOTSTRAP || addresses.contains_key(node_id))
        });
        links.entry(key).or_insert(link);
    }

    /// A link to whichever node answers: an open one, or a known node, or a bootstrap address.
    async fn any_link(&self) -> Result<Link, ClientError> {
        let (open, nodes) = {
            let known = self.shared.known.borrow();
            let open = known.links.values().find(|link| link.connection.is_open());
            let nodes: Vec<_> = known.addresses.values().cloned().collect();
            (open.cloned(), nodes)
        };
        if let Some(link) = open {
            return Ok(link);
        }
        let mut last = "no address was given".to_owned();
        let mut tried = Vec::new();
        for (host, port) in nodes {
            match self.open(&host, port).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error.to_string(),
            }
        }
        for address in &self.shared.bootstrap {
            match self.bootstrap(address).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error.to_string(),
            }
            tried.push(address.as_str());
        }
        let addresses = tried.join(", ");
        Err(ClientError::Unreachable { addresses, last })
    }

    async fn bootstrap(&self, address: &str) -> Result<Link, ClientError> {
        let (host, port) = host_and_port(address).map_err(|why| ClientError::Resolve {
            host: address.to_owned(),
            why,
        })?;
        self.open(host, port).await
    }

    async fn link(&self, node_id: i32) -> Result<Link, ClientError> {
        let (link, address) = {
            let known = self.shared.known.borrow();
            (
                known.links.get(&node_id).cloned(),
                known.addresses.get(&node_id).cloned(),
            )
        };
        if let Some(link) = link.filter(|link| link.connection.is_open()) {
            return Ok(link);
        }
        let Some((host, port)) = address else {
            return Err(ClientError::UnknownNode { node_id });
        };
        let link = self.open(&host, port).await?;
        let replaced = {
            let mut known = self.shared.known.borrow_mut();
            known.links.insert(node_id, link.clone())
        };
        drop(replaced);
        Ok(link)
    }

    async fn open(&self, host: &str, port: u16) -> Result<Link, ClientError> {
        let options = &self.shared.options;
        let address = (options.resolve)(host, port).map_err(|why| ClientError::Resolve {
            host: host.to_owned(),
            why,
        })?;
        let connection = Connection::connect(address, &options.connection).await?;
        let versions = Rc::new(api_versions(&connection).await?);
        Ok(Link { connection, versions })
    }
}

/// The key of a link whose node is not known.
const BOOTSTRAP: i32 = -1;

impl Link {
    fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        let ours = api.info();
        let unsupported = || ClientError::Unsupported {
            address: self.connection.address(),
            api: ours.name,
        };
        let (min, max) = self.versions.get(&api.code()).ok_or_else(unsupported)?;
        let version = ours.max_version.min(*max);
        if version < ours.min_version.max(*min) {
            return Err(unsupported());
        }
        Ok(version)
    }
}

/// Asks what a broker speaks: in version 3, and again in 0 if that is too new for it (KIP-511).
async fn api_versions(connection: &Connection) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
    let request = ApiVersionsRequest {
        client_software_name: "millstream",
        client_software_version: env!("CARGO_PKG_VERSION"),
    };
    let newer = connection.call(3, &request).await;
    let response: ApiVersionsResponse = match newer {
        Ok(ApiVersionsResponse { error_code: ErrorCode::UnsupportedVersion, .. })
        // The error comes in version 0, which version 3 cannot read.
        | Err(ClientError::Malformed { .. }) => connection.call(0, &request).await?,
        other => other?,
    };
    let ranges = response
        .api_keys
        .iter()
        .map(|range| (range.api_key, (range.min_version, range.max_version)));
    Ok(ranges.collect())
}

/// Splits `host:port`, `[v6]:port` or `host`.
fn host_and_port(address: &str) -> Result<(&str, u16), String> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let number = port
                .parse()
                .map_err(|_| format!("{port:?} is not a port: give HOST:PORT"))?;
            (host, number)
        }
        _ => (address, DEFAULT_PORT),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err("the host is missing: give HOST:PORT".to_owned());
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        for (address, expected) in [
            ("localhost", ("localhost", 9092)),
            ("localhost:1", ("localhost", 1)),
            ("10.0.0.1:65535", ("10.0.0.1", 65_535)),
            ("[::1]:19093", ("::1", 19_093)),
            ("::1", ("::1", 9092)),
            ("[::1]", ("::1", 9092)),
        ] {
            assert_eq!(host_and_port(address), Ok(expected), "{address}");
        }
        for address in ["", ":9092", "host:", "host:port", "host:70000", "host:-1"] {
            assert!(host_and_port(address).is_err(), "{address}");
        }
    }

    #[test]
    fn literals_are_resolved_and_names_are_not() {
        assert_eq!(
            resolve_literal("LocalHost", 5),
            Ok(SocketAddr::from(([127, 0, 0, 1], 5)))
        );
        assert_eq!(
            resolve_literal("10.0.0.2", 5),
            Ok(SocketAddr::from(([10, 0, 0, 2], 5)))
        );
        assert!(resolve_literal("::1", 5).is_ok_and(|address| address.is_ipv6()));
        assert!(resolve_literal("example.org", 5).is_err());
    }
}
