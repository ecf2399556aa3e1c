//! The site at `/`: which file stands for a path, and what is answered where none does.
//!
//! ```text
//!  path ─► a file ────────────────────────────────────────────► sent
//!          a directory, no slash ─► path.html? ─► sent, else redirected to the slash
//!          a directory, slash ────► an index? ──► sent, else listed, or 403
//!          nothing ───────────────► path.html? ─► sent, else a navigation? ─► the page of --spa, or 404
//! ```

use crate::app::App;
use crate::app::exchange::Next;
use crate::app::files::cache::{Cache, Stored};
use crate::app::files::caching::Caching;
use crate::app::files::lookup::{Found, Meta, Refused, Root};
use crate::app::files::mime::Types;
use crate::app::files::neighbours::Neighbours;
use crate::app::files::representation::Representation;
use crate::app::files::{self, listing, path_below};
use crate::app::generated::{self, Compress};
use crate::app::pages::{self, Format};
use crate::app::routes;
use crate::config::Config;
use crate::http::accept;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A directory served as a site, and by which rules.
#[derive(Debug)]
pub struct Site {
    /// What its addresses begin with; begins and ends with a slash.
    pub prefix: String,
    root: Root,
    /// Whether a directory without an index shows its names.
    listing: bool,
    /// What stands for a directory: the first of these that is there.
    index: Vec<Vec<u8>>,
    /// Whether `/about` may be about.html.
    try_html: bool,
    /// The page that answers navigations to nothing, a path below the root.
    spa: Option<Vec<u8>>,
    /// Whether file.br may stand for file.
    precompressed: bool,
    types: Types,
    caching: Caching,
    cache: Cache,
}

impl Site {
    /// # Errors
    /// The page of `--spa` is not there: every address would be 404.
    pub fn new(prefix: &str, root: Root, config: &Config) -> Result<Site, StartError> {
        let mut rules = config.site.clone();
        // The page of an application is in ROOT.
        rules.spa = rules.spa.filter(|_| prefix == "/");
        if let Some(path) = &rules.spa
            && !matches!(root.find(path), Ok(Found::File { .. }))
        {
            let path = path.escape_ascii();
            return Err(StartError::new(format!(
                "cannot serve \"{path}\" as the page of --spa: there is no such file in ROOT that may be served; correct \
                 the path, which is below ROOT"
            )));
        }
        Ok(Site {
            prefix: prefix.to_owned(),
            root,
            listing: config.listing,
            index: rules.index,
            try_html: rules.try_html,
            spa: rules.spa,
            precompressed: rules.precompressed,
            types: Types::new(rules.mime),
            caching: Caching::new(rules.cache_control, rules.immutable),
            cache: Cache::new(config.limits.cache),
        })
    }

    /// A file that was served lately, if `path` still leads to it.
    fn cached(&self, path: &[u8], now: &Now) -> Option<Arc<Stored>> {
        self.cache.find(path, &self.root, now.instant)
    }

    /// Takes in the file at `path` below the root.
    fn load(&self, path: &[u8], file: File, meta: Meta) -> Stored {
        Stored::load(path, file, meta, &self.types.of(path), self.caching.of(path))
    }

    fn represent<'a>(&'a self, stored: &'a Arc<Stored>) -> Representation<'a> {
        let mut representation = Representation::new(stored);
        representation.neighbours = self.precompressed.then(|| Neighbours::new(&self.root, &stored.path, stored.meta));
        representation
    }
}

/// What a path of the request came to.
enum Answer {
    File(Arc<Stored>),
    /// A directory, its address without the slash at its end.
    Redirect,
    Listing(OwnedFd),
    Nothing(Refused),
}

pub fn answer(app: &App, request: &Request, responder: Responder, now: &Now) -> Next {
    let Some(site) = app.site_of(request.path()) else { return routes::not_found(request, responder) };
    let path = path_below(request, &site.prefix);
    let path = path.as_deref();
    match path.map_or(Answer::Nothing(Refused::NotFound), |path| resolve(site, path, now)) {
        Answer::File(stored) => site.represent(&stored).answer(app, request, responder, now),
        Answer::Redirect => redirect(site, request, path.unwrap_or_default(), responder),
        Answer::Listing(dir) => list(app, site, dir, path.unwrap_or_default(), request, responder, now),
        Answer::Nothing(Refused::NotFound) => match navigation(site, request) {
            Some(stored) => {
                let mut representation = site.represent(&stored);
                // To another client the same address is 404.
                representation.vary = Vary::ACCEPT;
                representation.answer(app, request, responder, now)
            }
            None => routes::not_found(request, responder),
        },
        Answer::Nothing(refused) => files::refused(&refused, request, responder),
    }
}

/// What a path comes to: from what is kept, or by looking it up.
fn resolve(site: &Site, path: &[u8], now: &Now) -> Answer {
    if let Some(stored) = site.cached(path, now) {
        return Answer::File(stored);
    }
    if site.cache.is_missing(path, now.instant) {
        return Answer::Nothing(Refused::NotFound);
    }
    let answer = look_up(site, path, now);
    if let Answer::Nothing(Refused::NotFound) = answer {
        site.cache.note_missing(path, now.instant);
    }
    answer
}

/// Kept is only what is found first: while it is there, nothing that comes later in the order could stand
/// for the path instead.
fn look_up(site: &Site, path: &[u8], now: &Now) -> Answer {
    let has_slash = path.is_empty() || path.ends_with(b"/");
    match site.root.find(path) {
        Ok(Found::File { file, meta }) => {
            Answer::File(site.cache.keep(path, site.load(path, file, meta), now.instant, now.unix))
        }
        Ok(Found::Directory { dir, .. }) if has_slash => index(site, path, dir, now),
        Ok(Found::Directory { .. }) => with_html(site, path).unwrap_or(Answer::Redirect),
        Err(Refused::NotFound) if !has_slash => with_html(site, path).unwrap_or(Answer::Nothing(Refused::NotFound)),
        Err(refused) => Answer::Nothing(refused),
    }
}

/// The file of `--try-html`.
fn with_html(site: &Site, path: &[u8]) -> Option<Answer> {
    if !site.try_html {
        return None;
    }
    let path = [path, b".html"].concat();
    match site.root.find(&path) {
        Ok(Found::File { file, meta }) => Some(Answer::File(Arc::new(site.load(&path, file, meta)))),
        Ok(Found::Directory { .. }) | Err(Refused::NotFound) => None,
        Err(refused) => Some(Answer::Nothing(refused)),
    }
}

/// The index file of a directory, or else its listing.
fn index(site: &Site, directory: &[u8], dir: OwnedFd, now: &Now) -> Answer {
    for (place, name) in site.index.iter().enumerate() {
        let path = [directory, name].concat();
        match site.root.find(&path) {
            Ok(Found::File { file, meta }) => {
                let stored = site.load(&path, file, meta);
                return Answer::File(match place {
                    0 => site.cache.keep(directory, stored, now.instant, now.unix),
                    _ => Arc::new(stored),
                });
            }
            Ok(Found::Directory { .. }) | Err(Refused::NotFound) => {}
            Err(refused) => return Answer::Nothing(refused),
        }
    }
    Answer::Listing(dir)
}

/// The page of `--spa`, where the request is a person's way to a page and not a script's to a file: it says
/// that it wants HTML, and its last segment has no extension.
fn navigation(site: &Site, request: &Request) -> Option<Arc<Stored>> {
    let path = site.spa.as_ref()?;
    let last = request.path().rsplit(|&b| b == b'/').next().unwrap_or_default();
    if last.contains(&b'.') || !accept::accepts_html_explicitly(request.values(Name::Accept)) {
        return None;
    }
    match site.root.find(path) {
        Ok(Found::File { file, meta }) => Some(Arc::new(site.load(path, file, meta))),
        _ => None,
    }
}

fn list(app: &App, site: &Site, dir: OwnedFd, path: &[u8], request: &Request, responder: Responder, now: &Now) -> Next {
    let format = Format::of(request);
    if !site.listing {
        let sentence = "This directory has no index, and its names are not shown.";
        return pages::error(format, responder, Status::FORBIDDEN, sentence);
    }
    let form = match format {
        Format::Json => listing::Form::Json,
        Format::Html | Format::Plain => listing::Form::Html,
    };
    let mut page = Vec::new();
    if let Err(error) = listing::render(&site.root, dir, path, form, &mut page) {
        let refused = rustix::io::Errno::from_io_error(&error).map_or(Refused::Other(error), Into::into);
        return files::refused(&refused, request, responder);
    }
    let content_type = form.content_type();
    generated::answer(request, responder, now, content_type, Vary::ACCEPT, Compress::WhenNeeded(&app.coders), &page)
}

/// To the same directory with a slash, so that relative links in it work. The path is encoded anew from
/// its decoded segments and begins with one slash: it cannot name another host.
fn redirect(site: &Site, request: &Request, path: &[u8], responder: Responder) -> Next {
    let mut location = site.prefix.trim_end_matches('/').as_bytes().to_vec();
    for segment in path.split(|&b| b == b'/') {
        location.push(b'/');
        escape::path_segment(segment, &mut location);
    }
    location.push(b'/');
    if let Some(query) = request.target.query {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut fields = responder.start(Status::MOVED_PERMANENTLY);
    fields.field("Location", location);
    pages::finish_error(
        Format::of(request),
        fields,
        Status::MOVED_PERMANENTLY,
        "This directory's address ends in a slash.",
    )
}
