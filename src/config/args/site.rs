//! The flags about serving a directory.

use crate::config::args::values::{choice, file_name, path_in_root};
use crate::config::site::{CacheRule, CharsetRule, EtagRule, MimeRule, SiteRules, Symlinks};
use clap::ValueEnum;
use clap::builder::PossibleValue;

/// A name or path in the bytes of the file system. (clap would take `Option<Vec<u8>>` for a list of numbers.)
type Bytes = Vec<u8>;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it is served")]
pub(super) struct SiteArgs {
    /// File that stands for its directory, repeatable
    ///
    /// The first that exists is served.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = file_name())]
    pub(super) index: Vec<Bytes>,

    /// Serve about.html for /about
    ///
    /// A file called about goes before it, a directory called about does not. /about.html works as before.
    #[arg(long)]
    pub(super) try_html: bool,

    /// Page of a single-page application, a path in ROOT
    ///
    /// It answers, with 200, every navigation that would be a 404: a GET or HEAD whose Accept names text/html and whose
    /// path does not end in a name with a dot.
    #[arg(long, value_name = "FILE", value_parser = path_in_root())]
    pub(super) spa: Option<Bytes>,

    /// Send file.br, file.zst or file.gz in place of file
    ///
    /// If the client accepts the coding and the compressed file is not older than the file itself.
    #[arg(long)]
    pub(super) precompressed: bool,

    /// Media type of an extension, repeatable
    ///
    /// As in --mime wasm=application/wasm. The type is sent as it is written here.
    #[arg(long, value_name = "EXT=TYPE")]
    pub(super) mime: Vec<MimeRule>,

    /// Charset of text files, or off, repeatable [default: utf-8]
    ///
    /// As in --charset off, --charset iso-8859-1 or --charset '*.html=windows-1251': a pattern as for --cache-control, for
    /// the files that match. The first pattern that matches counts, else the last charset without a pattern. off sends no
    /// charset: the file's own declaration counts. XML never gets one, and a type of --mime is sent as it is written.
    #[arg(long, value_name = "[GLOB=]NAME|off")]
    pub(super) charset: Vec<CharsetRule>,

    /// Cache-Control of the files that match a pattern, repeatable
    ///
    /// As in --cache-control '*.css=max-age=3600' or --cache-control 'assets/**=no-cache'. The first pattern that
    /// matches counts. * and ? stay within a name, ** is any directories. A pattern without a slash matches names
    /// anywhere, one with a slash the path below ROOT. A file without a match has no Cache-Control.
    #[arg(long, value_name = "GLOB=VALUE")]
    pub(super) cache_control: Vec<CacheRule>,

    /// Let caches keep files with a hash in their name for good
    ///
    /// Names such as app.3f2a9c1b.js and index-BdG3kz9a.css get Cache-Control: public, max-age=31536000, immutable,
    /// whatever --cache-control says: such a name is never used for another content.
    #[arg(long)]
    pub(super) immutable: bool,

    /// What the entity tag of a file is made of
    #[arg(long, value_name = "RULE", value_enum, default_value = "inode")]
    pub(super) etag: EtagRule,

    /// Symbolic links that are followed
    #[arg(long, value_name = "WHICH", value_enum, default_value = "inside")]
    pub(super) symlinks: Symlinks,

    /// Serve and list names that begin with a dot
    ///
    /// .well-known/ is served without it.
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
            Symlinks::Inside => choice("inside", "Those that lead to a place inside the directory that is served"),
            Symlinks::None => choice("none", "None"),
            Symlinks::All => choice("all", "All, wherever they lead"),
        })
    }
}

impl ValueEnum for EtagRule {
    fn value_variants<'a>() -> &'a [EtagRule] {
        &[EtagRule::Inode, EtagRule::Content, EtagRule::MtimeSize]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        const INODE: &str =
            "Inode, time of change and content: another tag whenever the content may be another. For one server";
        const CONTENT: &str =
            "Content alone: equal files have equal tags on all servers. Above 256 KiB a weak tag of mtime and size";
        const MTIME_SIZE: &str = "Time of modification and size, for servers of the same tree. It does not see a file replaced by \
                                  one that has both";
        Some(match self {
            EtagRule::Inode => choice("inode", INODE),
            EtagRule::Content => choice("content", CONTENT),
            EtagRule::MtimeSize => choice("mtime-size", MTIME_SIZE),
        })
    }
}
