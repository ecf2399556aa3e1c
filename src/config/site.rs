//! Settings for serving a directory: which file is sent for a path, with which fields, and which files are left out.

use std::str::FromStr;

use crate::config::glob::Glob;
use crate::config::responses;
use crate::http::chars::is_token;

/// The rules for a site. A route or a host may have its own. `etag`, `symlinks` and `hidden` apply to the store too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRules {
    /// Whether a directory without an index file is listed.
    pub listing: bool,
    /// Names of files to serve for a directory. The first that exists is served.
    pub index: Vec<Vec<u8>>,
    /// Whether about.html is served for /about.
    pub try_html: bool,
    /// The page of a single-page application: a path below the root, without a slash at the beginning.
    pub spa: Option<Vec<u8>>,
    /// Whether file.br, file.zst or file.gz may be sent in place of file.
    pub precompressed: bool,
    /// Media types of extensions. They override the built-in ones.
    pub mime: Vec<MimeRule>,
    /// The first pattern that matches is used, else the last charset without a pattern.
    pub charset: Vec<CharsetRule>,
    /// The first pattern that matches is used.
    pub cache_control: Vec<CacheRule>,
    /// Whether caches may keep files with a hash in their name forever.
    pub immutable: bool,
    pub etag: EtagRule,
    pub symlinks: Symlinks,
    /// Whether names that begin with a dot are served and listed.
    pub hidden: bool,
}

/// How the entity tag of a file is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtagRule {
    /// From inode, change time and content: a new tag whenever the content may have changed. For a single server.
    #[default]
    Inode,
    /// From the content: equal files have equal tags on all servers. Above 256 KiB, a weak tag from mtime and size.
    Content,
    /// From modification time and size, for several servers with copies of the same files. If a file is replaced by
    /// another with the same time and size, the tag stays the same.
    MtimeSize,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Links, relative or absolute, to a place inside the served directory. For any other link the answer is 404.
    #[default]
    Inside,
    None,
    /// All links, even into /proc. `..` in the request path is still refused.
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

/// `NAME`, `off` or `GLOB=NAME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharsetRule {
    /// `None`: the rule is for every file that matches no pattern.
    pub glob: Option<Glob>,
    /// In lower case. `None`: no charset is sent.
    pub charset: Option<String>,
}

/// `GLOB=VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    pub glob: Glob,
    /// The value of Cache-Control.
    pub value: String,
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

impl FromStr for CharsetRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<CharsetRule, &'static str> {
        // The pattern may contain an equals sign. The charset is a token and cannot.
        let (glob, name) = match text.rsplit_once('=') {
            Some((glob, name)) => (Some(glob.parse()?), name),
            None => (None, text),
        };
        if !is_token(name.as_bytes()) {
            return Err("write a charset, or a pattern and a charset: utf-8, off or *.html=windows-1251");
        }
        let name = name.to_ascii_lowercase();
        Ok(CharsetRule { glob, charset: Some(name).filter(|name| name != "off") })
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
pub(super) fn file_name(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    match name {
        [] | b"." | b".." => Err("not the name of a file; write one such as index.html"),
        _ if name.contains(&b'/') => Err("a name has no slash; write one such as index.html"),
        _ => Ok(name.to_vec()),
    }
}

/// A path below ROOT, without its slash at the beginning, if it has one.
pub(super) fn path_in_root(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    match path.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"" | b"." | b"..")) {
        true => Err("not a path below ROOT; write one such as index.html or app/index.html"),
        false => Ok(path.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::ffi::OsString;
    use std::path::PathBuf;

    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, clap::Error> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(value))
        };
        Config::resolve(["dustdevil"].iter().chain(args), variable, || Ok(PathBuf::from("/home/me")))
    }

    const FLAGS: &[&str] = &[
        "site",
        "--directory=store",
        "--index=a.html",
        "--index=b",
        "--try-html",
        "--spa=/app/index.html",
        "--precompressed",
        "--mime=.WASM=application/wasm",
        "--charset=off",
        "--charset=*.html=Windows-1251",
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
    ];

    /// The same rules.
    const VARIABLES: &[(&str, &str)] = &[
        ("DUSTDEVIL_DIRECTORY", "store"),
        ("DUSTDEVIL_INDEX", "a.html, b"),
        ("DUSTDEVIL_TRY_HTML", "1"),
        ("DUSTDEVIL_SPA", "app/index.html"),
        ("DUSTDEVIL_PRECOMPRESSED", "1"),
        ("DUSTDEVIL_MIME", "wasm=application/wasm"),
        ("DUSTDEVIL_CHARSET", "off\n*.html=windows-1251"),
        ("DUSTDEVIL_CACHE_CONTROL", "*.css=public, max-age=1\n**=no-cache\n"),
        ("DUSTDEVIL_IMMUTABLE", "1"),
        ("DUSTDEVIL_ETAG", "content"),
        ("DUSTDEVIL_SYMLINKS", "none"),
        ("DUSTDEVIL_HIDDEN", "1"),
        ("DUSTDEVIL_ALLOW_DELETE", "1"),
        ("DUSTDEVIL_HEADER", "X-A: b, c"),
        ("DUSTDEVIL_CORS", "https://a.example"),
        ("DUSTDEVIL_ERROR_PAGE", "404=sub/404.html"),
    ];

    #[test]
    fn the_rules_reach_their_fields_by_flag_and_by_variable() {
        let by_flag = read(FLAGS, &[]).unwrap();
        assert_eq!(by_flag.rules.site.index, [&b"a.html"[..], b"b"]);
        assert_eq!(by_flag.rules.site.spa.as_deref(), Some(&b"app/index.html"[..]));
        let mime = MimeRule { extension: "wasm".into(), media_type: "application/wasm".into() };
        assert_eq!(by_flag.rules.site.mime, [mime]);
        assert_eq!(by_flag.rules.site.cache_control[0].value, "public, max-age=1");
        assert_eq!(by_flag.rules.site.symlinks, Symlinks::None);
        assert_eq!(by_flag.rules.site.etag, EtagRule::Content);
        assert!(
            by_flag.rules.site.try_html
                && by_flag.rules.site.precompressed
                && by_flag.rules.site.immutable
                && by_flag.rules.site.hidden
        );
        assert!(by_flag.rules.delete);
        assert_eq!(by_flag.rules.responses.error_pages[0].path, PathBuf::from("sub/404.html"));
        let by_variable = read(&["site"], VARIABLES).unwrap();
        assert_eq!(by_flag.rules.site, by_variable.rules.site);
        assert_eq!(by_flag.rules.responses, by_variable.rules.responses);
        assert_eq!(by_flag.rules.delete, by_variable.rules.delete);
    }

    #[test]
    fn a_charset_stands_alone_or_behind_a_pattern() {
        for (text, glob, charset) in [
            ("UTF-8", None, Some("utf-8")),
            ("off", None, None),
            ("*.html=Windows-1251", Some("*.html"), Some("windows-1251")),
            ("/a=b/**=Off", Some("/a=b/**"), None),
        ] {
            let expected =
                CharsetRule { glob: glob.map(|glob| glob.parse().unwrap()), charset: charset.map(str::to_owned) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
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
            assert_eq!(config.rules.responses.cors.map(|origin| origin.0).as_deref(), Some(origin), "{args:?}");
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
            &["--charset="],
            &["--charset=*.html="],
            &["--charset==utf-8"],
            &["--charset=utf 8"],
            &["--charset=*.html=utf-8; x"],
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
            &["--directory=s", "--charset=off"],
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
