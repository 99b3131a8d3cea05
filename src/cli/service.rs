use std::path::PathBuf;

use clap::Args;

use crate::api::{Network, Region};

/// Service flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// Region of the group, such as ap-southeast-1
    ///
    /// One of ap-southeast-1, ap-southeast-5, cn-hongkong and ap-southeast-3; also read from ALIBABA_CLOUD_REGION_ID.
    #[arg(long, env = "FACE_ENROLL_REGION", value_name = "ID")]
    pub region: Option<Region>,
    /// Use the region's public or VPC endpoint
    #[arg(long, env = "FACE_ENROLL_NETWORK", default_value = "public", value_name = "public|vpc")]
    pub network: Network,
    /// Endpoint URL instead of the region's; http:// only to a loopback address
    #[arg(long, env = "FACE_ENROLL_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Endpoint of AuthorizeFileUpload (photos above 1 MB)
    #[arg(
        long,
        env = "FACE_ENROLL_UPLOAD_ENDPOINT",
        value_name = "URL",
        default_value = "https://openplatform.aliyuncs.com"
    )]
    pub upload_endpoint: String,
    /// Endpoint of object storage for oss:// sources and photos, instead of the region's; also the URL of a sandbox;
    /// http:// only to a loopback address
    #[arg(long, env = "FACE_ENROLL_OSS_ENDPOINT", value_name = "URL")]
    pub oss_endpoint: Option<String>,
    /// Extra trusted CA certificates (PEM), such as those of a TLS-inspecting proxy
    #[arg(long, env = "FACE_ENROLL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
