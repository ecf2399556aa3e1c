//! The flags about serving a directory: which file answers a path, with which fields, and which files are left out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use crate::config::glob::Glob;
use crate::config::responses;
use crate::http::chars::is_token;

/// A name or path in the bytes of the file system. (clap would take `Option<Vec<u8>>` for a list of numbers.)
type Bytes = Vec<u8>;

/// The rules of the site. `etag`, `symlinks` and `hidden` apply to the store too.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "How it is served")]
pub struct SiteRules {
    /// File that stands for its directory, repeatable
    ///
    /// The first that exists is served.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = file_name())]
    pub index: Vec<Bytes>,

    /// Serve about.html for /about
    ///
    /// A file called about goes before it, a directory called about does not. /about.html works as before.
    #[arg(long)]
    pub try_html: bool,

    /// Page of a single-page application, a path in ROOT
    ///
    /// It answers, with 200, every navigation that would be a 404: a GET or HEAD whose Accept names text/html and whose
    /// path does not end in a name with a dot.
    #[arg(long, value_name = "FILE", value_parser = path_in_root())]
    pub spa: Option<Bytes>,

    /// Send file.br, file.zst or file.gz in place of file
    ///
    /// If the client accepts the coding and the compressed file is not older than the file itself.
    #[arg(long)]
    pub precompressed: bool,

    /// Media type of an extension, repeatable
    ///
    /// As in --mime wasm=application/wasm. The type is sent as it is written here.
    #[arg(long, value_name = "EXT=TYPE")]
    pub mime: Vec<MimeRule>,

    /// Cache-Control of the files that match a pattern, repeatable
    ///
    /// As in --cache-control '*.css=max-age=3600' or --cache-control 'assets/**=no-cache'. The first pattern that
    /// matches counts. * and ? stay within a name, ** is any directories. A pattern without a slash matches names
    /// anywhere, one with a slash the path below ROOT. A file without a match has no Cache-Control.
    #[arg(long, value_name = "GLOB=VALUE")]
    pub cache_control: Vec<CacheRule>,

    /// Let caches keep files with a hash in their name for good
    ///
    /// Names such as app.3f2a9c1b.js and index-BdG3kz9a.css get Cache-Control: public, max-age=31536000, immutable,
    /// whatever --cache-control says: such a name is never used for another content.
    #[arg(long)]
    pub immutable: bool,

    /// What the entity tag of a file is made of
    #[arg(long, value_name = "RULE", value_enum, default_value = "inode")]
    pub etag: EtagRule,

    /// Symbolic links that are followed
    #[arg(long, value_name = "WHICH", value_enum, default_value = "inside")]
    pub symlinks: Symlinks,

    /// Serve and list names that begin with a dot
    ///
    /// .well-known/ is served without it.
    #[arg(long)]
    pub hidden: bool,
}

/// What the entity tag of a file is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EtagRule {
    /// Inode, time of change and content: another tag whenever the content may be another. For one server
    #[default]
    Inode,
    /// Content alone: equal files have equal tags on all servers. Above 256 KiB a weak tag of mtime and size
    Content,
    /// Time of modification and size, for servers of the same tree. It does not see a file replaced by one that has both
    MtimeSize,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Symlinks {
    /// Those that lead to a place inside the directory that is served
    // Relative or absolute. Any other link is not found.
    #[default]
    Inside,
    /// None
    None,
    /// All, wherever they lead
    // /proc included. `..` in the request path is refused all the same.
    All,
}

/// `EXT=TYPE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MimeRule {
    /// In lower case, without a dot.
    pub extension: String,
    /// The value of Content-Type.
    pub media_type: String,
}

/// `GLOB=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    pub glob: Glob,
    /// The value of Cache-Control.
    pub value: String,
}

impl SiteRules {
    /// The first flag given that has no effect if no site is served.
    pub fn about_a_site(&self) -> Option<&'static str> {
        let flags = [
            ("--index", self.index != [b"index.html"]),
            ("--try-html", self.try_html),
            ("--spa", self.spa.is_some()),
            ("--precompressed", self.precompressed),
            ("--mime", !self.mime.is_empty()),
            ("--cache-control", !self.cache_control.is_empty()),
            ("--immutable", self.immutable),
        ];
        flags.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }
}

impl FromStr for MimeRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<MimeRule, &'static str> {
        const REMEDY: &str = "write an extension and a media type: wasm=application/wasm";
        let (extension, media_type) = text.split_once('=').ok_or(REMEDY)?;
        let extension = extension.strip_prefix('.').unwrap_or(extension);
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let is_type = essence.split_once('/').is_some_and(|(a, b)| is_token(a.as_bytes()) && is_token(b.as_bytes()));
        if extension.is_empty() || extension.contains(['/', '.']) || !is_type {
            return Err(REMEDY);
        }
        let media_type = responses::field_value(media_type)?;
        Ok(MimeRule { extension: extension.to_lowercase(), media_type })
    }
}

impl FromStr for CacheRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<CacheRule, &'static str> {
        let (glob, value) = text.split_once('=').ok_or("write a pattern and a value: *.css=max-age=3600")?;
        Ok(CacheRule { glob: glob.parse()?, value: responses::field_value(value)? })
    }
}

/// A name within a directory.
fn file_name() -> impl clap::builder::TypedValueParser<Value = Vec<u8>> {
    bytes(|name| match name {
        [] | b"." | b".." => Err("not the name of a file; write one such as index.html"),
        _ if name.contains(&b'/') => Err("a name has no slash; write one such as index.html"),
        _ => Ok(name.to_vec()),
    })
}

/// A path below ROOT, in the form that the resolver takes. A slash in front is allowed.
fn path_in_root() -> impl clap::builder::TypedValueParser<Value = Vec<u8>> {
    bytes(|path| {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        match path.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"" | b"." | b"..")) {
            true => Err("not a path below ROOT; write one such as index.html or app/index.html"),
            false => Ok(path.to_vec()),
        }
    })
}

fn bytes(check: fn(&[u8]) -> Result<Vec<u8>, &'static str>) -> impl clap::builder::TypedValueParser<Value = Vec<u8>> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(move |text: OsString| check(&text.into_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::PathBuf;

    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, clap::Error> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(value))
        };
        Config::resolve(["dustdevil"].iter().chain(args), variable, || Ok(PathBuf::from("/home/me")))
    }

    #[test]
    fn the_rules_reach_their_fields_by_flag_and_by_variable() {
        let by_flag = read(
            &[
                "site",
                "--directory=store",
                "--index=a.html",
                "--index=b",
                "--try-html",
                "--spa=/app/index.html",
                "--precompressed",
                "--mime=.WASM=application/wasm",
                "--cache-control=*.css=public, max-age=1",
                "--cache-control=**=no-cache",
                "--immutable",
                "--etag=content",
                "--symlinks=none",
                "--hidden",
                "--allow-delete",
                "--header=X-A: b, c",
                "--cors=https://a.example",
                "--error-page=404=sub/404.html",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(by_flag.site.index, [&b"a.html"[..], b"b"]);
        assert_eq!(by_flag.site.spa.as_deref(), Some(&b"app/index.html"[..]));
        let mime = MimeRule { extension: "wasm".into(), media_type: "application/wasm".into() };
        assert_eq!(by_flag.site.mime, [mime]);
        assert_eq!(by_flag.site.cache_control[0].value, "public, max-age=1");
        assert_eq!(by_flag.site.symlinks, Symlinks::None);
        assert_eq!(by_flag.site.etag, EtagRule::Content);
        assert!(by_flag.site.try_html && by_flag.site.precompressed && by_flag.site.immutable && by_flag.site.hidden);
        assert!(by_flag.delete);
        assert_eq!(by_flag.responses.error_pages[0].path, PathBuf::from("sub/404.html"));
        let by_variable = read(
            &["site"],
            &[
                ("DUSTDEVIL_DIRECTORY", "store"),
                ("DUSTDEVIL_INDEX", "a.html, b"),
                ("DUSTDEVIL_TRY_HTML", "1"),
                ("DUSTDEVIL_SPA", "app/index.html"),
                ("DUSTDEVIL_PRECOMPRESSED", "1"),
                ("DUSTDEVIL_MIME", "wasm=application/wasm"),
                ("DUSTDEVIL_CACHE_CONTROL", "*.css=public, max-age=1\n**=no-cache\n"),
                ("DUSTDEVIL_IMMUTABLE", "1"),
                ("DUSTDEVIL_ETAG", "content"),
                ("DUSTDEVIL_SYMLINKS", "none"),
                ("DUSTDEVIL_HIDDEN", "1"),
                ("DUSTDEVIL_ALLOW_DELETE", "1"),
                ("DUSTDEVIL_HEADER", "X-A: b, c"),
                ("DUSTDEVIL_CORS", "https://a.example"),
                ("DUSTDEVIL_ERROR_PAGE", "404=sub/404.html"),
            ],
        )
        .unwrap();
        assert_eq!(by_flag.site, by_variable.site);
        assert_eq!(by_flag.responses, by_variable.responses);
        assert_eq!(by_flag.delete, by_variable.delete);
    }

    #[test]
    fn cors_takes_an_origin_and_never_the_root() {
        for (args, root, origin) in [
            (&["--cors"][..], "/home/me", "*"),
            (&["--cors", "public/"], "public/", "*"),
            (&["public/", "--cors"], "public/", "*"),
            (&["--cors", "https://a.example", "public/"], "public/", "https://a.example"),
            (&["--cors=https://a.example", "public/"], "public/", "https://a.example"),
            (&["--cors", "--try-html", "public/"], "public/", "*"),
            (&["public/", "--cors", "*"], "public/", "*"),
        ] {
            let config = read(args, &[]).unwrap_or_else(|error| panic!("{args:?}: {error}"));
            assert_eq!(config.root, Some(root.into()), "{args:?}");
            assert_eq!(config.responses.cors.map(|origin| origin.0).as_deref(), Some(origin), "{args:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for args in [
            &["--index="][..],
            &["--index=a/b"],
            &["--index=.."],
            &["--spa=../x"],
            &["--spa=a//b"],
            &["--spa=a/"],
            &["--mime=wasm"],
            &["--mime=wasm=text"],
            &["--mime==text/plain"],
            &["--mime=a.b=text/plain"],
            &["--mime=a=text/plain\r\nX: y"],
            &["--cache-control=no-cache"],
            &["--cache-control==no-cache"],
            &["--cache-control=*="],
            &["--cache-control=*=a\nb"],
            &["--symlinks=some"],
            &["--etag=weak"],
            &["--error-page=404"],
            &["--error-page=404="],
            &["--error-page=200=x"],
            &["--error-page=600=x"],
            &["--error-page=4040=x"],
            &["--error-page=+04=x"],
            &["--cors=x"],
            &["--cors=https://a/"],
            &["--header=Content-Length: 5"],
            &["--header=X"],
            // Together.
            &["--allow-delete"],
            &["--directory=s", "--spa=index.html"],
            &["--directory=s", "--try-html"],
            &["--directory=s", "--index=a"],
            &["--directory=s", "--mime=a=b/c"],
            &["--directory=s", "--precompressed"],
            &["--directory=s", "--immutable"],
            &["--directory=s", "--cache-control=*=no-cache"],
            &["--header=Cache-Control: no-store", "--cache-control=*=no-cache"],
            &["--header=cache-control: no-store", "--immutable"],
            &["--header=Access-Control-Allow-Origin: *", "--cors"],
        ] {
            let error = read(args, &[]).expect_err(&format!("{args:?}"));
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
        for args in [
            &["--directory=s", "--allow-delete", "--hidden", "--symlinks=all", "--cors", "--header=X-A: b"][..],
            &["--directory=s", "site", "--spa=index.html"],
            &["--header=Cache-Control: no-store"],
            &["--header=Access-Control-Allow-Origin: *"],
        ] {
            assert!(read(args, &[]).is_ok(), "{args:?}");
        }
    }
}
