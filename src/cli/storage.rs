use std::path::PathBuf;

use clap::Args;

use crate::api::{Network, Region};

/// Object storage flags of commands that do not call the service.
#[derive(Debug, Args)]
#[command(next_help_heading = "Object storage")]
pub struct StorageArgs {
    /// Region of the buckets, such as ap-southeast-1
    #[arg(long, env = "FACE_ENROLL_REGION", value_name = "ID")]
    pub region: Option<Region>,
    /// Use the region's public or internal endpoint
    #[arg(long, env = "FACE_ENROLL_NETWORK", default_value = "public", value_name = "public|vpc")]
    pub network: Network,
    /// Endpoint of object storage instead of the region's; also the URL of a sandbox; http:// only to a loopback address
    #[arg(long, env = "FACE_ENROLL_OSS_ENDPOINT", value_name = "URL")]
    pub oss_endpoint: Option<String>,
    /// Extra trusted CA certificates (PEM)
    #[arg(long, env = "FACE_ENROLL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
