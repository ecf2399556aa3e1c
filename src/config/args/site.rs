//! The flags for serving a directory.

use crate::config::args::values::{choice, file_name, path_in_root};
use crate::config::site::{CacheRule, CharsetRule, EtagRule, MimeRule, SiteRules, Symlinks};
use clap::ValueEnum;
use clap::builder::PossibleValue;

/// A name or path in the bytes of the file system. (clap would take `Option<Vec<u8>>` for a list of numbers.)
type Bytes = Vec<u8>;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How files are served")]
pub(super) struct SiteArgs {
    /// File to serve for its directory, repeatable
    ///
    /// The first that exists is served.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = file_name())]
    pub(super) index: Vec<Bytes>,

    /// Serve about.html for /about
    ///
    /// If there is a file named about, that file is served instead. A directory named about is not. /about.html still
    /// works.
    #[arg(long)]
    pub(super) try_html: bool,

    /// Page of a single-page application, a path in ROOT
    ///
    /// Navigations get this page with 200 instead of a 404. A navigation is a GET or HEAD request whose Accept names
    /// text/html and whose last path segment has no dot.
    #[arg(long, value_name = "FILE", value_parser = path_in_root())]
    pub(super) spa: Option<Bytes>,

    /// Send file.br, file.zst or file.gz in place of file
    ///
    /// Only if the client accepts the coding, and the compressed file is not older than the file itself.
    #[arg(long)]
    pub(super) precompressed: bool,

    /// Media type of an extension, repeatable
    ///
    /// As in --mime wasm=application/wasm. The type is sent exactly as written here.
    #[arg(long, value_name = "EXT=TYPE")]
    pub(super) mime: Vec<MimeRule>,

    /// Charset of text files, or off, repeatable [default: utf-8]
    ///
    /// As in --charset iso-8859-1 or --charset off. As in --charset '*.html=windows-1251' for the files that match a
    /// pattern, which is written as for --cache-control. The first pattern that matches is used, else the last charset
    /// without a pattern. With off no charset is sent, so that clients use the one declared in the file. XML files
    /// never get a charset, and a type of --mime is sent exactly as written.
    #[arg(long, value_name = "[GLOB=]NAME|off")]
    pub(super) charset: Vec<CharsetRule>,

    /// Cache-Control of the files that match a pattern, repeatable
    ///
    /// As in --cache-control '*.css=max-age=3600' or --cache-control 'assets/**=no-cache'. The first pattern that
    /// matches is used. * and ? match within one name, ** matches any directories. A pattern without a slash matches
    /// names in any directory. A pattern with a slash matches the path below ROOT. A file that matches no pattern has
    /// no Cache-Control.
    #[arg(long, value_name = "GLOB=VALUE")]
    pub(super) cache_control: Vec<CacheRule>,

    /// Let caches keep files with a hash in their name forever
    ///
    /// Files named like app.3f2a9c1b.js and index-BdG3kz9a.css get Cache-Control: public, max-age=31536000, immutable,
    /// even if --cache-control matches them: such a name is never used again for other content.
    #[arg(long)]
    pub(super) immutable: bool,

    /// How the entity tag of a file is computed
    #[arg(long, value_name = "RULE", value_enum, default_value = "inode")]
    pub(super) etag: EtagRule,

    /// Which symbolic links are followed
    #[arg(long, value_name = "WHICH", value_enum, default_value = "inside")]
    pub(super) symlinks: Symlinks,

    /// Serve and list names that begin with a dot
    ///
    /// .well-known/ is served even without this flag.
    #[arg(long)]
    pub(super) hidden: bool,
}

impl SiteArgs {
    pub(super) fn rules(self, listing: bool) -> SiteRules {
        SiteRules {
            listing,
            index: self.index,
            try_html: self.try_html,
            spa: self.spa,
            precompressed: self.precompressed,
            mime: self.mime,
            charset: self.charset,
            cache_control: self.cache_control,
            immutable: self.immutable,
            etag: self.etag,
            symlinks: self.symlinks,
            hidden: self.hidden,
        }
    }
}

impl ValueEnum for Symlinks {
    fn value_variants<'a>() -> &'a [Symlinks] {
        &[Symlinks::Inside, Symlinks::None, Symlinks::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Symlinks::Inside => choice("inside", "Those that lead to a place inside the served directory"),
            Symlinks::None => choice("none", "None"),
            Symlinks::All => choice("all", "All, even those that lead out of the served directory"),
        })
    }
}

impl ValueEnum for EtagRule {
    fn value_variants<'a>() -> &'a [EtagRule] {
        &[EtagRule::Inode, EtagRule::Content, EtagRule::MtimeSize]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        const INODE: &str =
            "From inode, change time and content: a new tag whenever the content may have changed. For a single server";
        const CONTENT: &str = "From the content: equal files have equal tags on all servers. Above 256 KiB, a weak tag from mtime and size";
        const MTIME_SIZE: &str = "From modification time and size, for several servers with copies of the same files. If a file is \
                                  replaced by another with the same time and size, the tag stays the same";
        Some(match self {
            EtagRule::Inode => choice("inode", INODE),
            EtagRule::Content => choice("content", CONTENT),
            EtagRule::MtimeSize => choice("mtime-size", MTIME_SIZE),
        })
    }
}
