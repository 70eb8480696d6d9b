//! Condition types and reasons: every string of this kind that users see, once.
//!
//! Promises: types and reasons are API (scripts and alerts match them); messages are for people.
//! Reasons are PascalCase (Kubernetes API conventions, "Typical status properties").

/// Condition types.
pub mod types {
    /// All that the resource needs is in place.
    pub const READY: &str = "Ready";
    /// SendingDomain: every wanted DKIM key exists.
    pub const KEYS_READY: &str = "KeysReady";
    /// SendingDomain: SPF passes for every egress address.
    pub const SPF_VERIFIED: &str = "SPFVerified";
    /// SendingDomain: the records of all keys are published and match.
    pub const DKIM_VERIFIED: &str = "DKIMVerified";
    /// SendingDomain: a sufficient DMARC policy is published.
    pub const DMARC_VERIFIED: &str = "DMARCVerified";
    /// SendingDomain: the return path domain has its MX.
    pub const RETURN_PATH_VERIFIED: &str = "ReturnPathVerified";
    /// RelayPool, and SendingDomain for its pool: every egress address has a name that leads back to
    /// it, and the names given in EHLO are such names.
    pub const PTR_VERIFIED: &str = "PTRVerified";
    /// SendingDomain: MTA-STS covers the domains that answers go to.
    pub const MTA_STS_VERIFIED: &str = "MTASTSVerified";
    /// SendingDomain: reports about TLS to these domains have somewhere to go.
    pub const TLS_RPT_VERIFIED: &str = "TLSRPTVerified";
    /// SendingDomain: a DKIM key is on its way to sign.
    pub const ROTATING: &str = "Rotating";
    /// SendingDomain: pools that it has left have mail of it; present only while True.
    pub const MOVING: &str = "Moving";
    /// SendingDomain: the records that `spec.publish` asks for are in DNS.
    pub const PUBLISHED: &str = "Published";
    /// RelayPool: at least one member accepts mail.
    pub const AVAILABLE: &str = "Available";
    /// RelayPool: members are being created, replaced or removed.
    pub const PROGRESSING: &str = "Progressing";
    /// RelayPool: every member runs the rendered configuration.
    pub const CONFIG_APPLIED: &str = "ConfigApplied";
    /// RelayPool: volumes of former members are kept.
    pub const SPOOLS_RETAINED: &str = "SpoolsRetained";
    /// RelayPool: SPF passes for the names given in EHLO.
    pub const EHLO_VERIFIED: &str = "EHLOVerified";
    /// SuppressionList: every pool that names the list has it loaded.
    pub const DISTRIBUTED: &str = "Distributed";
    /// Work is under way; present only while True.
    pub const RECONCILING: &str = "Reconciling";
    /// Something retrying cannot cure; present only while True.
    pub const STALLED: &str = "Stalled";
}

/// Condition reasons.
pub mod reasons {
    /// All is as wanted.
    pub const READY: &str = "Ready";
    /// The check passed.
    pub const VERIFIED: &str = "Verified";
    /// The check is switched off in the spec.
    pub const NOT_REQUIRED: &str = "NotRequired";
    /// Not looked at yet.
    pub const PENDING: &str = "Pending";
    /// A wanted record is not published.
    pub const RECORD_MISSING: &str = "RecordMissing";
    /// A published record differs from the wanted one.
    pub const RECORD_MISMATCH: &str = "RecordMismatch";
    /// Several records where one is allowed.
    pub const RECORD_CONFLICT: &str = "RecordConflict";
    /// A published record cannot be parsed.
    pub const RECORD_INVALID: &str = "RecordInvalid";
    /// SPF does not pass for an egress address.
    pub const SPF_NOT_PASSING: &str = "SPFNotPassing";
    /// The DMARC policy is weaker than asked.
    pub const POLICY_TOO_WEAK: &str = "PolicyTooWeak";
    /// An MTA-STS policy cannot be used, or does not cover the domain's MX.
    pub const POLICY_INVALID: &str = "PolicyInvalid";
    /// The host of an MTA-STS policy gave no answer, so nothing is known.
    pub const POLICY_UNAVAILABLE: &str = "PolicyUnavailable";
    /// DNS gave no answer, so nothing is known.
    pub const DNS_UNAVAILABLE: &str = "DNSUnavailable";
    /// None of a zone's name servers can be reached from here.
    pub const AUTHORITY_UNREACHABLE: &str = "AuthorityUnreachable";
    /// Records of the domain still have to be published.
    pub const RECORDS_MISSING: &str = "RecordsMissing";
    /// Keys exist.
    pub const KEYS_GENERATED: &str = "KeysGenerated";
    /// A key Secret cannot be read.
    pub const KEY_INVALID: &str = "KeyInvalid";
    /// Name servers or caches of the world may still have something else than a key's record.
    pub const WAITING_FOR_PROPAGATION: &str = "WaitingForPropagation";
    /// Relays have not reported a key, or the end of one, yet.
    pub const WAITING_FOR_RELAYS: &str = "WaitingForRelays";
    /// A rotation waits for keys of earlier ones to retire.
    pub const WAITING_FOR_RETIREMENT: &str = "WaitingForRetirement";
    /// No key is on its way.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// A key's record is seen everywhere.
    pub const KEY_VISIBLE: &str = "KeyVisible";
    /// Relays sign with a key from now on.
    pub const KEY_ACTIVATED: &str = "KeyActivated";
    /// Relays sign with a key no more.
    pub const KEY_RETIRED: &str = "KeyRetired";
    /// A key's record is no longer wanted.
    pub const KEY_WITHDRAWN: &str = "KeyWithdrawn";
    /// A key is gone for good.
    pub const KEY_DELETED: &str = "KeyDeleted";
    /// Keys are verified but not yet loaded by every relay.
    pub const KEYS_LOADING: &str = "KeysLoading";
    /// Records have been handed over and are seen in DNS.
    pub const PUBLISHED: &str = "Published";
    /// Records have been handed over and are not seen in DNS yet.
    pub const WAITING_FOR_DNS: &str = "WaitingForDNS";
    /// The cluster does not know the kind that the records are to be handed over by.
    pub const PUBLISHER_NOT_INSTALLED: &str = "PublisherNotInstalled";
    /// The name server or the API server refuses to take the records.
    pub const PUBLISHER_REFUSED: &str = "PublisherRefused";
    /// The name server gives no answer.
    pub const PUBLISHER_UNREACHABLE: &str = "PublisherUnreachable";
    /// Records to publish are not in the zone that is updated.
    pub const OUTSIDE_ZONE: &str = "OutsideZone";
    /// Published records have been taken out of DNS.
    pub const RECORDS_WITHDRAWN: &str = "RecordsWithdrawn";
    /// Published records could not be taken out of DNS.
    pub const RECORDS_LEFT: &str = "RecordsLeft";
    /// A SendingDomain that is being deleted still has mail in the queues of its pools, or one that
    /// names another pool now in those of the pool it named before.
    pub const QUEUE_NOT_EMPTY: &str = "QueueNotEmpty";
    /// It is not known yet what mail of such a SendingDomain is queued.
    pub const QUEUE_UNKNOWN: &str = "QueueUnknown";
    /// No more mail of such a SendingDomain is in the queues of the pool.
    pub const QUEUE_EMPTY: &str = "QueueEmpty";
    /// A pool is given up by such a SendingDomain although mail of it may be in its queues.
    pub const QUEUE_LEFT: &str = "QueueLeft";
    /// The named pool does not exist.
    pub const POOL_NOT_FOUND: &str = "PoolNotFound";
    /// A named Secret or ConfigMap, or a key in it, does not exist.
    pub const REFERENCE_NOT_FOUND: &str = "ReferenceNotFound";
    /// A named Secret or ConfigMap holds something unusable.
    pub const REFERENCE_INVALID: &str = "ReferenceInvalid";
    /// Another SendingDomain has the same domain.
    pub const DOMAIN_CONFLICT: &str = "DomainConflict";
    /// Two credentials share a username.
    pub const USERNAME_CONFLICT: &str = "UsernameConflict";
    /// The pool names no egress address, so SPF cannot be evaluated.
    pub const NO_EGRESS_ADDRESSES: &str = "NoEgressAddresses";
    /// Members are starting.
    pub const MEMBERS_STARTING: &str = "MembersStarting";
    /// No node takes a pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A pod waits for its volume.
    pub const VOLUME_NOT_BOUND: &str = "VolumeNotBound";
    /// A pod is on its node, which cannot mount a volume of it.
    pub const FAILED_MOUNT: &str = "FailedMount";
    /// A pod is on its node, which has no room or network for it.
    pub const FAILED_CREATE_POD_SAND_BOX: &str = "FailedCreatePodSandBox";
    /// The image of a pod's container cannot be pulled.
    pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
    /// The image of a pod's container has a name that is none.
    pub const INVALID_IMAGE_NAME: &str = "InvalidImageName";
    /// A pod's container cannot be configured.
    pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
    /// A pod's container cannot be made.
    pub const CREATE_CONTAINER_ERROR: &str = "CreateContainerError";
    /// A pod's container ends again and again.
    pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
    /// Enough members accept mail.
    pub const MEMBERS_AVAILABLE: &str = "MembersAvailable";
    /// No member accepts mail.
    pub const NO_MEMBERS: &str = "NoMembers";
    /// Scaled to zero on purpose.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// A rollout is under way.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// Nothing is being changed.
    pub const STABLE: &str = "Stable";
    /// Every member reports the rendered configuration.
    pub const APPLIED: &str = "Applied";
    /// Members have not yet reported the rendered configuration.
    pub const WAITING_FOR_MEMBERS: &str = "WaitingForMembers";
    /// A member refused the rendered configuration.
    pub const REFUSED: &str = "Refused";
    /// An object of a name that the resource needs is somebody else's.
    pub const OBJECT_CONFLICT: &str = "ObjectConflict";
    /// The API server finds an object invalid that is made from the spec.
    pub const OBJECT_INVALID: &str = "ObjectInvalid";
    /// A policy or webhook of the cluster denies an object that the resource needs.
    pub const ADMISSION_DENIED: &str = "AdmissionDenied";
    /// A webhook that has to be asked about an object cannot be called.
    pub const ADMISSION_UNAVAILABLE: &str = "AdmissionUnavailable";
    /// A ResourceQuota leaves no room for an object that the resource needs.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// The operator may not write an object that the resource needs.
    pub const FORBIDDEN: &str = "Forbidden";
    /// The rendered documents do not fit their objects.
    pub const TOO_LARGE: &str = "TooLarge";
    /// An object that the pool depends on has a form that this operator does not know.
    pub const OBJECT_UNREADABLE: &str = "ObjectUnreadable";
    /// A member that has joined was given the standing orders of the others.
    pub const ORDERS_HANDED_ON: &str = "OrdersHandedOn";
    /// Volumes of former members are kept.
    pub const VOLUMES_RETAINED: &str = "VolumesRetained";
    /// No volumes are kept besides those in use.
    pub const NONE_RETAINED: &str = "NoneRetained";
    /// Every pool has the list.
    pub const DISTRIBUTED: &str = "Distributed";
    /// No pool names the list.
    pub const NOT_USED: &str = "NotUsed";
    /// Entries of a source cannot be read.
    pub const ENTRIES_INVALID: &str = "EntriesInvalid";
}
