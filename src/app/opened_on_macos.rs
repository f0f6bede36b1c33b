//! Room `app`: on macOS, has the system tell us of files to open. It tells the application's delegate, which is winit's and knows no
//! such thing: it is taught to, after winit has made it and before the files that the program was started with are handed over.
#![allow(unsafe_code, reason = "classes of Objective-C have no safe form; every use is argued below")]

use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use block2::RcBlock;
use objc2::ffi::class_addMethod;
use objc2::runtime::{AnyClass, AnyObject, Imp, Sel};
use objc2::{MainThreadMarker, sel};
use objc2_app_kit::{NSApplication, NSApplicationWillFinishLaunchingNotification};
use objc2_foundation::{NSArray, NSNotification, NSNotificationCenter, NSURL};

use super::opened_files::OpenedFiles;

/// Where they go: a method that is added to a class has no room of its own.
static FILES: OnceLock<OpenedFiles> = OnceLock::new();

/// `application:openURLs:`. A panic must not leave it, and nothing in it can panic.
extern "C-unwind" fn open_urls(_: &AnyObject, _: Sel, _: &AnyObject, urls: &NSArray<NSURL>) {
    let paths = urls.iter().filter_map(|url| url.path()).map(|path| path.to_string().into());
    if let Some(files) = FILES.get() {
        files.add(paths.collect());
    }
}

type OpenUrls = extern "C-unwind" fn(&AnyObject, Sel, &AnyObject, &NSArray<NSURL>);

fn teach_the_delegate(main: MainThreadMarker) {
    let application = NSApplication::sharedApplication(main);
    let Some(delegate) = application.delegate() else { return };
    let object: &AnyObject = (*delegate).as_ref();
    let class = ptr::from_ref::<AnyClass>(object.class()).cast_mut();
    // SAFETY: Only the type that the runtime has for all methods; it is called with what `types` below says.
    let method = unsafe { std::mem::transmute::<OpenUrls, Imp>(open_urls) };
    // SAFETY: The class is one of the program, registered for good; the types are those of the method: nothing comes back, and
    // it gets the object, the selector and two objects. (A class that has the method already keeps its own.)
    let _ = unsafe { class_addMethod(class, sel!(application:openURLs:), method, c"v@:@@".as_ptr()) };
    // What a delegate can do is looked up when it is set.
    application.setDelegate(None);
    application.setDelegate(Some(&delegate));
}

/// Has files that the system wants opened put there. Once in a run of the program, before its loop of events.
pub(super) fn listen(files: OpenedFiles) {
    let Some(main) = MainThreadMarker::new() else { return };
    if FILES.set(files).is_err() {
        return;
    }
    let begin = RcBlock::new(move |_: NonNull<NSNotification>| teach_the_delegate(main));
    // SAFETY: AppKit's constant is there from the start of the program.
    let name = unsafe { NSApplicationWillFinishLaunchingNotification };
    // SAFETY: Without a queue the block runs where the notice is posted, which is the main thread; it may stay for good.
    let _observer = unsafe {
        NSNotificationCenter::defaultCenter().addObserverForName_object_queue_usingBlock(
            Some(name),
            None,
            None,
            &begin,
        )
    };
}
