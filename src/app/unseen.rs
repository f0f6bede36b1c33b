//! Room `app`: on X11, a window that is on another virtual desktop. Window managers take such a window off the screen by
//! unmapping the frame around it, or leave it mapped and change only what the desktop's properties say; the server sends a
//! client no VisibilityNotify for either, so the loop of events would go on drawing what nobody sees. A thread with a
//! connection of its own listens to the window, its frames and the root, and sends the notice that the server does not.

use std::thread;

use eframe::wgpu::rwh::{HasWindowHandle, RawWindowHandle};
use x11rb::connection::Connection;
use x11rb::errors::ReplyOrIdError;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, MapState, VISIBILITY_NOTIFY_EVENT,
    Visibility, VisibilityNotifyEvent, Window,
};
use x11rb::rust_connection::RustConnection;

/// Both properties have this value for a window on every desktop.
const EVERY_DESKTOP: u32 = u32::MAX;

/// Starts to tell this window that it is unseen, and seen again; ends with the window. On Wayland, and where the display
/// refuses another connection, it does nothing: then only drawing costs more.
pub(super) fn watch(window: &impl HasWindowHandle) {
    let Ok(handle) = window.window_handle() else { return };
    let xid = match handle.as_raw() {
        // X ids have 32 bits; Xlib's type is wider.
        RawWindowHandle::Xlib(handle) => handle.window as Window,
        RawWindowHandle::Xcb(handle) => handle.window.get(),
        _ => return,
    };
    let started = thread::Builder::new().name("unseen".into()).spawn(move || {
        if let Err(error) = Watch::new(xid).and_then(|mut watch| watch.follow()) {
            tracing::debug!("no longer looking whether the window is on another desktop: {error}");
        }
    });
    if let Err(error) = started {
        tracing::warn!("looking whether the window is on another desktop: {error}");
    }
}

/// Why nobody sees the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unseen {
    /// It, or a frame around it, is not mapped. The server says so itself when it is again.
    Unmapped,
    /// It is mapped, but on another desktop.
    Elsewhere,
}

struct Watch {
    x: RustConnection,
    root: Window,
    window: Window,
    /// Where the window is, and where the user is.
    desktop_atoms: [Atom; 2],
    unseen: Option<Unseen>,
}

impl Watch {
    fn new(window: Window) -> Result<Self, ReplyOrIdError> {
        let (x, _) = x11rb::connect(None).map_err(|error| {
            tracing::debug!("a second connection to the display: {error}");
            ReplyOrIdError::ConnectionError(x11rb::errors::ConnectionError::UnknownError)
        })?;
        let root = x.get_geometry(window)?.reply()?.root;
        let mut desktop_atoms = [0; 2];
        for (atom, name) in desktop_atoms.iter_mut().zip([&b"_NET_WM_DESKTOP"[..], b"_NET_CURRENT_DESKTOP"]) {
            *atom = x.intern_atom(false, name)?.reply()?.atom;
        }
        let watch = Self { x, root, window, desktop_atoms, unseen: None };
        watch.listen(root, EventMask::PROPERTY_CHANGE)?;
        watch.listen_to_frames()?;
        Ok(watch)
    }

    /// Returns when the window is destroyed.
    fn follow(&mut self) -> Result<(), ReplyOrIdError> {
        loop {
            let event = self.x.wait_for_event()?;
            match event {
                Event::DestroyNotify(gone) if gone.window == self.window => return Ok(()),
                Event::ReparentNotify(_) => self.listen_to_frames()?,
                Event::PropertyNotify(change) if !self.desktop_atoms.contains(&change.atom) => continue,
                _ => {}
            }
            let now = self.look()?;
            if now != self.unseen {
                match (self.unseen, now) {
                    (_, Some(_)) => self.tell(Visibility::FULLY_OBSCURED)?,
                    (Some(Unseen::Elsewhere), None) => self.tell(Visibility::PARTIALLY_OBSCURED)?,
                    (_, None) => {}
                }
                self.unseen = now;
            }
        }
    }

    fn listen(&self, window: Window, mask: EventMask) -> Result<(), ReplyOrIdError> {
        let wanted = ChangeWindowAttributesAux::new().event_mask(mask);
        Ok(self.x.change_window_attributes(window, &wanted)?.check()?)
    }

    /// The window itself and what a window manager put around it.
    fn listen_to_frames(&self) -> Result<(), ReplyOrIdError> {
        let mut window = self.window;
        while window != self.root && window != x11rb::NONE {
            self.listen(window, EventMask::STRUCTURE_NOTIFY | EventMask::PROPERTY_CHANGE)?;
            window = self.x.query_tree(window)?.reply()?.parent;
        }
        Ok(())
    }

    fn look(&self) -> Result<Option<Unseen>, ReplyOrIdError> {
        if self.x.get_window_attributes(self.window)?.reply()?.map_state != MapState::VIEWABLE {
            return Ok(Some(Unseen::Unmapped));
        }
        let [its, current] = self.desktop_atoms;
        let (its, current) = (self.number(self.window, its)?, self.number(self.root, current)?);
        Ok(match (its, current) {
            (Some(its), Some(current)) if its != current && its != EVERY_DESKTOP => Some(Unseen::Elsewhere),
            _ => None,
        })
    }

    fn number(&self, window: Window, name: Atom) -> Result<Option<u32>, ReplyOrIdError> {
        let property = self.x.get_property(false, window, name, AtomEnum::CARDINAL, 0, 1)?.reply()?;
        Ok(property.value32().and_then(|mut values| values.next()))
    }

    fn tell(&self, state: Visibility) -> Result<(), ReplyOrIdError> {
        let notice = VisibilityNotifyEvent {
            response_type: VISIBILITY_NOTIFY_EVENT,
            sequence: 0,
            window: self.window,
            state,
        };
        self.x.send_event(false, self.window, EventMask::VISIBILITY_CHANGE, notice)?.check()?;
        Ok(())
    }
}
