//! What a real API server makes of our definitions, manifests and chart. Needs no node and no root.

mod chart_accepted_by_api_server;
mod crd_manifests;
mod strict;
