//! The media type of a file by its name's extension, whether it is worth compressing, and whether its name says that it
//! is compressed already.
//!
//! mime_guess knows the extensions. This module decides which types get a charset, replaces the few retired names in
//! its tables by the current types, and knows which suffixes stand for the gzip form of another type. The user's own
//! rules take precedence. The content is not looked at.
//!
//! The rule for the charset: `text/*` gets `charset=utf-8`, or the charset that the user chose, because without one a
//! receiver may guess another and most texts are UTF-8. A type whose files declare their own encoding gets none,
//! because the parameter would override the declaration: XML (RFC 7303, section 3) under any name, and SGML. JSON has
//! no such parameter (RFC 8259, section 11). HTML could declare its encoding, but most files do not: it gets a charset.

use std::borrow::Cow;

use crate::config::site::{CharsetRule, MimeRule};

/// The type of an unknown extension (RFC 9110, section 8.3: the receiver may examine the content).
pub const UNKNOWN: &str = "application/octet-stream";

/// Types of `text` whose files declare their own encoding.
const DECLARED: &[&str] =
    &["text/xml", "text/mathml", "text/sgml", "text/vnd.wap.wml", "text/x-opml", "text/x-suse-ymp"];

/// Extensions that stand for the gzip form of another type.
const GZIPPED: &[(&str, &str)] =
    &[("svgz", "svg"), ("emz", "emf"), ("wmz", "wmf"), ("x3dz", "x3d"), ("x3dvz", "x3dv"), ("wrz", "wrl")];

/// Extensions of what browsers load as a page or as a part of one. `.gz` behind one of these means its gzip form.
/// Behind any other it means an archive, which is sent as such.
const PARTS_OF_PAGES: &[&str] = &["html", "htm", "xhtml", "xht", "css", "js", "mjs", "svg", "wasm"];

/// The types of a site: the user's own, then the known ones.
#[derive(Debug)]
pub struct Types {
    own: Vec<MimeRule>,
    charsets: Vec<CharsetRule>,
}

impl Types {
    pub fn new(own: Vec<MimeRule>, charsets: Vec<CharsetRule>) -> Types {
        Types { own, charsets }
    }

    /// The value of Content-Type for the file at `path`. Of two rules for one extension the last counts.
    pub fn of(&self, path: &[u8]) -> Cow<'_, str> {
        if let Some(rule) = self.own_rule(extension(path).unwrap_or_default()) {
            return Cow::Borrowed(&rule.media_type);
        }
        let media_type = media_type(path);
        if !takes_charset(media_type) {
            return Cow::Borrowed(media_type);
        }
        match self.charset(path) {
            None => Cow::Borrowed(media_type),
            Some("utf-8") => with_utf8(media_type),
            Some(charset) => Cow::Owned(format!("{media_type}; charset={charset}")),
        }
    }

    /// If the name of `path` says that the file is in gzip: the type of the decoded content.
    pub fn behind_gzip(&self, path: &[u8]) -> Option<Cow<'_, str>> {
        let extension = extension(path)?;
        if self.own_rule(extension).is_some() {
            return None;
        }
        let stem = path.strip_suffix(extension.as_bytes())?;
        if let Some((_, original)) = GZIPPED.iter().find(|(form, _)| extension.eq_ignore_ascii_case(form)) {
            return Some(self.of(&[stem, original.as_bytes()].concat()));
        }
        let original = stem.strip_suffix(b".").filter(|_| extension.eq_ignore_ascii_case("gz"))?;
        let of_original = self::extension(original)?;
        PARTS_OF_PAGES.iter().any(|part| of_original.eq_ignore_ascii_case(part)).then(|| self.of(original))
    }

    fn own_rule(&self, extension: &str) -> Option<&MimeRule> {
        self.own.iter().rfind(|rule| rule.extension.eq_ignore_ascii_case(extension))
    }

    /// The charset of a text: from the first pattern that matches, otherwise from the last rule without a pattern.
    fn charset(&self, path: &[u8]) -> Option<&str> {
        let of_pattern = self.charsets.iter().find(|rule| rule.glob.as_ref().is_some_and(|glob| glob.matches(path)));
        let rule = of_pattern.or_else(|| self.charsets.iter().rfind(|rule| rule.glob.is_none()));
        rule.map_or(Some("utf-8"), |rule| rule.charset.as_deref())
    }
}

/// The media type for a file name, without parameters. The name may have directories in front.
fn media_type(name: &[u8]) -> &'static str {
    let Some(extension) = extension(name) else {
        return UNKNOWN;
    };
    match mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN) {
        // RFC 9239; mime_guess still has this for .mjs.
        "application/javascript" => "text/javascript",
        // RFC 8081.
        "application/font-woff" => "font/woff",
        "application/font-sfnt" => "font/otf",
        // RFC 7903.
        "application/x-msmetafile" if extension.eq_ignore_ascii_case("emf") => "image/emf",
        "application/x-msmetafile" => "image/wmf",
        // HLS players expect this. TypeScript sources have the same extension; for them it is no worse.
        "video/vnd.dlna.mpeg-tts" => "video/mp2t",
        other => other,
    }
}

fn takes_charset(media_type: &str) -> bool {
    media_type.starts_with("text/") && !DECLARED.contains(&media_type)
}

/// These literals need no allocation. They are nearly all texts that sites hold.
fn with_utf8(media_type: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(match media_type {
        "text/html" => "text/html; charset=utf-8",
        "text/css" => "text/css; charset=utf-8",
        "text/javascript" => "text/javascript; charset=utf-8",
        "text/plain" => "text/plain; charset=utf-8",
        "text/markdown" => "text/markdown; charset=utf-8",
        "text/csv" => "text/csv; charset=utf-8",
        "text/calendar" => "text/calendar; charset=utf-8",
        "text/vtt" => "text/vtt; charset=utf-8",
        "text/x-rust" => "text/x-rust; charset=utf-8",
        "text/x-toml" => "text/x-toml; charset=utf-8",
        "text/x-yaml" => "text/x-yaml; charset=utf-8",
        other => return Cow::Owned(format!("{other}; charset=utf-8")),
    })
}

/// Whether gzip makes content of this type notably smaller. Images, video, audio, archives and WOFF are compressed
/// already: gzip would take time and gain nothing.
pub fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let is = |a: &str, list: &[&str]| list.iter().any(|b| a.eq_ignore_ascii_case(b));
    let suffix = subtype.rsplit_once('+').map_or("", |(_, suffix)| suffix);
    is(kind, &["text"])
        || is(suffix, &["xml", "json", "yaml"])
        || (is(kind, &["application"]) && is(subtype, APPLICATION))
        || (is(kind, &["image"]) && is(subtype, &["bmp", "x-ms-bmp", "x-icon", "vnd.microsoft.icon", "emf", "wmf"]))
        || (is(kind, &["font"]) && is(subtype, &["ttf", "otf", "sfnt", "collection"]))
}

/// Subtypes of `application` that are text, or binary with much redundancy.
const APPLICATION: &[&str] = &[
    "javascript",
    "x-javascript",
    "ecmascript",
    "json",
    "json5",
    "hjson",
    "xml",
    "xml-dtd",
    "yaml",
    "x-yaml",
    "toml",
    "sql",
    "x-sql",
    "rtf",
    "wasm",
    "x-sh",
    "x-csh",
    "x-tex",
    "x-latex",
    "x-texinfo",
    "postscript",
    "x-httpd-php",
    "graphql",
    "x-ndjson",
    "jsonlines",
    "x-subrip",
    "n-triples",
    "n-quads",
    "x-tar",
    "vnd.ms-fontobject",
    "x-font-ttf",
    "vnd.apple.mpegurl",
    "x-mpegurl",
];

/// What follows the last dot of the last segment. A leading dot makes a hidden file, not an extension.
fn extension(name: &[u8]) -> Option<&str> {
    let name = name.rsplit(|&b| b == b'/').next()?;
    let dot = name.iter().rposition(|&b| b == b'.').filter(|&dot| dot > 0)?;
    std::str::from_utf8(&name[dot + 1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_type(name: &[u8]) -> Cow<'static, str> {
        Cow::Owned(Types::new(Vec::new(), Vec::new()).of(name).into_owned())
    }

    #[test]
    fn types_of_the_web() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.htm", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.xml", "text/xml"),
            ("a.xsl", "text/xml"),
            ("a.XSD", "text/xml"),
            ("a.dtd", "text/xml"),
            ("a.opml", "text/x-opml"),
            ("a.wml", "text/vnd.wap.wml"),
            ("a.mml", "text/mathml"),
            ("a.sgml", "text/sgml"),
            ("a.rss", "application/rss+xml"),
            ("a.vtt", "text/vtt; charset=utf-8"),
            ("a.less", "text/less; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.svg", "image/svg+xml"),
            ("a.atom", "application/atom+xml"),
            ("a.xhtml", "application/xhtml+xml"),
            ("a.wasm", "application/wasm"),
            ("a.avif", "image/avif"),
            ("a.webp", "image/webp"),
            ("a.png", "image/png"),
            ("a.jpg", "image/jpeg"),
            ("favicon.ico", "image/x-icon"),
            ("a.woff", "font/woff"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("a.mp4", "video/mp4"),
            ("a.ts", "video/mp2t"),
            ("a.pdf", "application/pdf"),
            ("a.emf", "image/emf"),
            ("a.wmf", "image/wmf"),
            ("a.tar.gz", "application/gzip"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("dir.js/a.css", "text/css; charset=utf-8"),
        ] {
            assert_eq!(content_type(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn names_that_say_nothing_are_octets() {
        let names: [&[u8]; 12] = [
            b"",
            b".",
            b"..",
            b"README",
            b".html",
            b"dir/.html",
            b"dir.html/README",
            b"a.",
            b"a.nosuchtype",
            b"a.\xff\xfe",
            b"html",
            b"a.html ",
        ];
        for name in names {
            assert_eq!(content_type(name), UNKNOWN, "{}", name.escape_ascii());
        }
        assert_eq!(content_type(b"\xff.html"), "text/html; charset=utf-8");
    }

    #[test]
    fn common_types_allocate_nothing() {
        let types = Types::new(Vec::new(), Vec::new());
        for name in ["a.html", "a.css", "a.js", "a.mjs", "a.txt", "a.md", "a.json", "a.svg", "a.png", "a.bin", "a"] {
            assert!(matches!(types.of(name.as_bytes()), Cow::Borrowed(_)), "{name}");
        }
    }

    #[test]
    fn a_pattern_decides_the_charset_and_then_the_last_rule_without_one() {
        let of = |rules: &[&str], name: &str| {
            let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            let own = vec!["own=text/plain".parse().unwrap()];
            Types::new(own, rules).of(name.as_bytes()).into_owned()
        };
        for (rules, name, expected) in [
            (&["off"][..], "a.html", "text/html"),
            (&["koi8-r"], "a.txt", "text/plain; charset=koi8-r"),
            (&["koi8-r", "off", "utf-8"], "a.txt", "text/plain; charset=utf-8"),
            (&["off", "*.html=windows-1251"], "a.html", "text/html; charset=windows-1251"),
            (&["off", "*.html=windows-1251"], "a.txt", "text/plain"),
            (&["*.html=windows-1251"], "a.txt", "text/plain; charset=utf-8"),
            (&["old/**=off", "*.html=koi8-r"], "old/a.html", "text/html"),
            (&["old/**=off", "*.html=koi8-r"], "new/a.html", "text/html; charset=koi8-r"),
            // These types get no charset: their files declare it, or the user wrote the whole type.
            (&["**=koi8-r"], "a.xml", "text/xml"),
            (&["**=koi8-r"], "a.json", "application/json"),
            (&["koi8-r"], "a.png", "image/png"),
            (&["**=koi8-r"], "a.own", "text/plain"),
        ] {
            assert_eq!(of(rules, name), expected, "{rules:?} {name}");
        }
    }

    #[test]
    fn some_names_say_that_the_file_is_in_gzip() {
        let behind = |own: &[&str], name: &str| {
            let own = own.iter().map(|rule| rule.parse().unwrap()).collect();
            Types::new(own, Vec::new()).behind_gzip(name.as_bytes()).map(Cow::into_owned)
        };
        for (name, expected) in [
            ("a.svgz", "image/svg+xml"),
            ("dir.x/A.SVGZ", "image/svg+xml"),
            ("a.emz", "image/emf"),
            ("a.wmz", "image/wmf"),
            ("a.xhtml.gz", "application/xhtml+xml"),
            ("a.HTML.GZ", "text/html; charset=utf-8"),
            ("a.min.js.gz", "text/javascript; charset=utf-8"),
            ("a.css.gz", "text/css; charset=utf-8"),
            ("a.svg.gz", "image/svg+xml"),
            ("a.wasm.gz", "application/wasm"),
        ] {
            assert_eq!(behind(&[], name).as_deref(), Some(expected), "{name}");
        }
        for name in [
            "a.gz",
            "a.tgz",
            "a.tar.gz",
            "a.csv.gz",
            "a.txt.gz",
            "a.sql.gz",
            "a.xml.gz",
            "a.svgz.gz",
            "html.gz",
            ".html.gz",
            ".svgz",
            "svgz",
            "a.svg",
            "a.js.br",
            "a.html.gz/b",
            "",
        ] {
            assert_eq!(behind(&[], name), None, "{name}");
        }
        assert_eq!(behind(&["gz=application/gzip"], "a.html.gz"), None);
        assert_eq!(behind(&["svgz=application/gzip"], "a.svgz"), None);
        assert_eq!(behind(&["wasm=application/x-own"], "a.wasm.gz").as_deref(), Some("application/x-own"));
    }

    #[test]
    fn text_by_any_name_is_compressible_and_archives_are_not() {
        for name in ["a.html", "a.js", "a.json", "a.svg", "a.wasm", "a.webmanifest", "a.atom", "a.ttf", "a.ico", "a.sh"]
        {
            assert!(is_compressible(&content_type(name.as_bytes())), "{name}");
        }
        for name in ["a.png", "a.webp", "a.avif", "a.woff2", "a.mp4", "a.gz", "a.zip", "a.pdf", "a", "a.mp3", "a.br"] {
            assert!(!is_compressible(&content_type(name.as_bytes())), "{name}");
        }
        for value in ["TEXT/HTML", "Application/JSON ; charset=x", "text/x-anything", "image/SVG+XML"] {
            assert!(is_compressible(value), "{value}");
        }
        for value in ["", "text", "/", "application/", "image/png+", "multipart/byteranges; boundary=text/html"] {
            assert!(!is_compressible(value), "{value}");
        }
    }
}
