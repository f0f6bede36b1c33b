//! Room `app`: every word the window says, in one table: a name, then English, then German. A language is a column; a
//! missing translation does not compile. `{name}` stands for a value, see [`fill`]. What the engine and the system
//! report (errors) is English.

use egui::{Context, Id};

/// The window's languages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// All of them, with what each calls itself.
    pub const ALL: [(Self, &'static str); 2] = [(Self::English, "English"), (Self::German, "Deutsch")];

    /// The language's words.
    #[must_use]
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::German => &GERMAN,
        }
    }
}

/// The language that was set.
#[must_use]
pub fn language(ctx: &Context) -> Language {
    ctx.data(|data| data.get_temp::<Language>(Id::NULL)).unwrap_or_default()
}

/// The words of the language that was set.
#[must_use]
pub fn texts(ctx: &Context) -> &'static Texts {
    language(ctx).texts()
}

thread_local! {
    /// The language of figures that are written without a context at hand: that of this thread's window.
    static FIGURES: std::cell::Cell<Language> = const { std::cell::Cell::new(Language::English) };
}

/// A figure with the language's own signs, made from the English one: `1,234.5` becomes `1.234,5`.
#[must_use]
pub fn figure(english: &str) -> String {
    match FIGURES.get() {
        Language::English => english.to_owned(),
        Language::German => english
            .chars()
            .map(|c| match c {
                '.' => ',',
                ',' => '.',
                c => c,
            })
            .collect(),
    }
}

/// Sets the language from the next frame on.
pub fn set_language(ctx: &Context, language: Language) {
    FIGURES.set(language);
    ctx.data_mut(|data| data.insert_temp(Id::NULL, language));
    ctx.request_repaint();
}

/// Puts values into a text: each `{name}` is replaced by the value of that name.
#[must_use]
pub fn fill(text: &str, values: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, behind)) if values.iter().any(|(known, _)| *known == name) => {
                for (_, value) in values.iter().filter(|(known, _)| *known == name) {
                    out.push_str(&value.to_string());
                }
                rest = behind;
            }
            _ => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

macro_rules! texts {
    ($($name:ident: $english:literal, $german:literal;)*) => {
        /// The words of one language, by name.
        #[derive(Debug)]
        pub struct Texts {
            $(
                #[doc = $english]
                pub $name: &'static str,
            )*
        }
        static ENGLISH: Texts = Texts { $($name: $english,)* };
        static GERMAN: Texts = Texts { $($name: $german,)* };
        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $german),)*];
    };
}

texts! {
    // Everywhere.
    close: "Close", "Schließen";
    cancel: "Cancel", "Abbrechen";
    copy: "Copy", "Kopieren";
    save: "Save", "Speichern";
    edit: "Edit", "Bearbeiten";
    delete: "Delete", "Löschen";
    undo: "Undo", "Rückgängig";
    settings: "Settings", "Einstellungen";
    token: "{n} token", "{n} Token";
    tokens: "{n} tokens", "{n} Tokens";
    untitled: "Untitled", "Ohne Titel";
    nothing_found: "Nothing found", "Nichts gefunden";

    // Side by side.
    side_by_side: "Side by side", "Nebeneinander";
    comparison: "Comparison", "Vergleich";
    back_to_chat: "Chat", "Chat";
    new_comparison: "New comparison", "Neuer Vergleich";
    example_comparison: "Example", "Beispiel";
    open_comparison: "Open comparison…", "Vergleich öffnen…";
    save_comparison: "Save comparison…", "Vergleich speichern…";
    save_comparison_title: "Save the comparison", "Vergleich speichern";
    write_report: "Write report…", "Bericht schreiben…";
    comparison_title: "Title", "Titel";
    comparison_opened: "Comparison opened", "Vergleich geöffnet";
    nothing_missing: "Everything has run already; “Run anew” runs it again.", "Alles ist schon gelaufen; „Neu laufen lassen“ tut es noch einmal.";
    file_written: "Written: {path}", "Geschrieben: {path}";
    add_column: "Add column", "Spalte dazu";
    column_name: "Name of the column", "Name der Spalte";
    column_menu: "What can be done with column {name}", "Was mit Spalte {name} geht";
    hide_editor: "Hide fields", "Felder ausblenden";
    show_editor: "Show fields", "Felder zeigen";
    shared_fields: "Shared by all columns", "Allen Spalten gemeinsam";
    add_field: "Add a field", "Feld dazu";
    own_field: "A field of its own", "Eigenes Feld";
    use_shared: "use what is shared", "das Gemeinsame nehmen";
    remove: "Remove", "Entfernen";
    duplicate: "Duplicate", "Verdoppeln";
    move_left: "Move left", "Nach links";
    move_right: "Move right", "Nach rechts";
    collapse: "Collapse", "Einklappen";
    expand_named: "Show column {name}", "Spalte {name} zeigen";
    field_prompt: "Prompt", "Frage";
    field_pictures: "Pictures", "Bilder";
    field_picture_size: "Picture size", "Bildgröße";
    picture_size_hint: "The picture's area when the model sees it: the side of a square, or WIDTHxHEIGHT, pixels. Its shape stays.", "Die Fläche des Bildes, wie das Modell es sieht: Seite eines Quadrats oder BREITExHÖHE, Pixel. Die Form bleibt.";
    field_answer_start: "The answer begins with", "Die Antwort beginnt mit";
    field_reference: "Reference answer", "Bezugsantwort";
    field_max_tokens: "Longest answer, tokens", "Längste Antwort, Tokens";
    field_model: "Model", "Modell";
    field_recipe: "Recipe", "Rezept";
    field_server: "Answered by a server", "Ein Server antwortet";
    field_before: "Earlier turns", "Frühere Beiträge";
    earlier_turns: "{n} messages come before", "{n} Nachrichten gehen voraus";
    samples: "Samples", "Beispielbilder";
    variables: "Variables and repeats", "Variablen und Wiederholungen";
    variables_hint: "{{name}} in a text stands for each of its values, one a line.", "{{name}} in einem Text steht für jeden seiner Werte, je Zeile einer.";
    variable_name: "Name of the variable", "Name der Variablen";
    variable_values: "Values, one a line", "Werte, je Zeile einer";
    add_variable: "Add a variable", "Variable dazu";
    paired: "Paired", "Paarweise";
    paired_hint: "First values go together, then second ones; otherwise every value goes with every other.", "Erste Werte gehören zusammen, dann zweite; sonst jeder Wert mit jedem.";
    repeats: "Repeats", "Wiederholungen";
    repeats_hint: "How often each cell runs, each time with the next seed.", "Wie oft jede Zelle läuft, jedes Mal mit dem nächsten Startwert.";
    csv_hint: "File of values", "Datei mit Werten";
    assertions: "Assertions", "Zusicherungen";
    assertions_hint: "What must hold of answers; one a line.", "Was von Antworten gelten muss; je Zeile eine.";
    assertion: "Assertion", "Zusicherung";
    add_assertion: "Add an assertion", "Zusicherung dazu";
    run: "Run", "Los";
    run_cells: "Run {n} cells", "{n} Zellen laufen lassen";
    run_missing: "Go on: {n} cells are missing", "Weiter: {n} Zellen fehlen";
    run_anew: "Run anew", "Neu laufen lassen";
    run_anew_hint: "Run all cells again, also those that have an answer", "Alle Zellen noch einmal, auch die mit einer Antwort";
    go_on_run: "Go on", "Weiter";
    cells_of: "{done} of {total} cells", "{done} von {total} Zellen";
    secs_left: "about {time} left", "noch etwa {time}";
    will_cost: "about {prompt} tokens of prompts ({pictures} of pictures), {new} new tokens at most", "etwa {prompt} Tokens Fragen (davon {pictures} Bilder), höchstens {new} neue";
    will_take_about: ", about {time}", ", etwa {time}";
    will_cost_hint: "Worked out from texts and sizes; what cells share is not taken off. Time follows the cells that ran before.", "Aus Texten und Größen geschätzt; was Zellen teilen, ist nicht abgezogen. Die Zeit folgt den Zellen, die schon liefen.";
    cells_failed: "{n} without an answer", "{n} ohne Antwort";
    results_outdated: "The results are of an earlier state; what has not changed is not run again.", "Die Ergebnisse sind von einem früheren Stand; was gleich blieb, läuft nicht noch einmal.";
    show_groups: "Show", "Zeigen";
    filter_all: "all rows", "alle Zeilen";
    filter_differing: "rows that differ", "Zeilen mit Unterschieden";
    filter_failing: "rows that fail", "Zeilen mit Fehlern";
    filter_unrated: "rows not rated", "Zeilen ohne Bewertung";
    differences: "Differences", "Unterschiede";
    no_differences: "not shown", "nicht gezeigt";
    against_column: "against {name}", "zu {name}";
    blind: "Blind", "Blind";
    blind_hint: "Answers in random order; which column each is of is shown when all of a row are rated.", "Antworten in zufälliger Reihenfolge; von welcher Spalte jede ist, zeigt sich, wenn alle einer Zeile bewertet sind.";
    hidden_column: "hidden until rated", "verborgen bis zur Bewertung";
    previous_page: "Rows before", "Zeilen davor";
    next_page: "Rows after", "Zeilen danach";
    rows_of: "{first}–{last} of {all}", "{first}–{last} von {all}";
    savings: "Shared: {reused} of {tokens} prompt tokens, {shared} of {pictures} pictures; about {time} saved", "Geteilt: {reused} von {tokens} Tokens der Fragen, {shared} von {pictures} Bildern; etwa {time} gespart";
    savings_hint: "What prompts have in common is prefilled once, and a picture is encoded once for all columns that see it at the same size.", "Was Fragen gemeinsam haben, wird einmal verarbeitet, und ein Bild wird für alle Spalten, die es gleich groß sehen, einmal gelesen.";
    summary: "Summary", "Zusammenfassung";
    passed_of: "{n} of {of} hold", "{n} von {of} bestehen";
    record: "{wins} wins, {losses} losses, {ties} ties", "{wins} Siege, {losses} Niederlagen, {ties} unentschieden";
    agreement: "Ratings agree with assertions in {n} of {of} (kappa {kappa})", "Bewertungen und Zusicherungen stimmen in {n} von {of} überein (Kappa {kappa})";
    agreement_hint: "Thumbs up, or four stars and more, beside what is asserted; kappa takes chance away.", "Daumen hoch oder vier Sterne und mehr neben dem Zugesicherten; Kappa rechnet den Zufall heraus.";
    perplexity: "perplexity {p}", "Perplexität {p}";
    first_after: "first after {time}", "erstes nach {time}";
    vision_took: "picture {time}", "Bild {time}";
    prefill_rate: "prefill {rate}", "Prefill {rate}";
    row: "Row {n}", "Zeile {n}";
    repeat_of: ", repeat {n} of {of}", ", Wiederholung {n} von {of}";
    nothing_run: "Nothing has run yet.", "Es ist noch nichts gelaufen.";
    stage_waiting: "waits", "wartet";
    stage_pictures: "looks at the picture", "sieht das Bild an";
    stage_prefill: "reads the prompt: {done} of {total}", "liest die Frage: {done} von {total}";
    stage_writing: "writes", "schreibt";
    stage_measuring: "measures the reference", "misst die Bezugsantwort";
    same_answer: "the same answer", "dieselbe Antwort";
    prompt_shared: "{tokens} tokens of prompt, {reused} of them shared", "{tokens} Tokens Frage, davon {reused} geteilt";
    in_batch: "{n} sessions in a step", "{n} Sitzungen je Schritt";
    ended_itself: "ended", "beendet";
    ended_not: "broken off", "abgebrochen";
    thumb_up: "Good", "Gut";
    thumb_down: "Bad", "Schlecht";
    stars: "{n} of 5 stars", "{n} von 5 Sternen";
    note: "Note", "Notiz";
    to_chat: "To a chat", "In einen Chat";
    to_chat_named: "Make a chat of this answer of {name}", "Aus dieser Antwort von {name} einen Chat machen";
    compare_from_here: "Compare", "Vergleichen";
    compare_from_hint: "Test this question side by side, with all that comes before it", "Diese Frage nebeneinander prüfen, mit allem, was davor steht";

    // Menus and the table of actions.
    menu_file: "File", "Datei";
    menu_chat: "Chat", "Chat";
    menu_view: "View", "Ansicht";
    new_chat: "New chat", "Neuer Chat";
    open_model: "Open model…", "Modell öffnen…";
    use_demo: "Use the demo model", "Das Demomodell nehmen";
    add_pictures: "Add pictures…", "Bilder hinzufügen…";
    add_frames: "Add a folder of frames as a clip…", "Ordner mit Einzelbildern als Clip hinzufügen…";
    export_chat: "Export chat…", "Chat exportieren…";
    export_markdown: "Export chat as Markdown…", "Chat als Markdown exportieren…";
    export_all: "Export all chats…", "Alle Chats exportieren…";
    import: "Import chats…", "Chats importieren…";
    quit: "Quit", "Beenden";
    send: "Send", "Senden";
    stop: "Stop the answer", "Antwort anhalten";
    edit_last: "Edit the last question", "Letzte Frage bearbeiten";
    regenerate: "Another answer", "Andere Antwort";
    continue_answer: "Go on with the answer", "Antwort fortsetzen";
    copy_answer: "Copy the answer", "Antwort kopieren";
    undo_deletion: "Undo the deletion", "Löschen rückgängig machen";
    rename_chat: "Rename chat", "Chat umbenennen";
    pin_chat: "Pin chat", "Chat anheften";
    unpin: "Unpin chat", "Chat lösen";
    delete_chat: "Delete chat", "Chat löschen";
    previous_chat: "Previous chat", "Voriger Chat";
    next_chat: "Next chat", "Nächster Chat";
    search_all: "Search all chats", "Alle Chats durchsuchen";
    palette: "Command palette", "Befehlspalette";
    shortcuts: "Keyboard shortcuts", "Tastenkürzel";
    about: "About Ocelli and its licences", "Über Ocelli und seine Lizenzen";
    version: "Ocelli {version}", "Ocelli {version}";
    about_words: "Talks about pictures with Qwen3-VL, inside its own process.", "Spricht über Bilder, mit Qwen3-VL im eigenen Prozess.";
    third_party: "What is in it", "Was darin steckt";
    third_party_words: "The program is made of other people's work too. Their notices and licences:", "Das Programm besteht auch aus der Arbeit anderer. Ihre Vermerke und Lizenzen:";
    copy_licences: "Copy the licences", "Lizenzen kopieren";
    toggle_history: "List of chats", "Liste der Chats";
    toggle_settings: "Settings of the chat", "Einstellungen des Chats";
    show_prompt: "The prompt and its tokens", "Der Prompt und seine Tokens";
    zoom_in: "Larger text and everything else", "Alles größer";
    zoom_out: "Smaller text and everything else", "Alles kleiner";
    zoom_reset: "Usual size", "Übliche Größe";
    theme_system: "Theme of the system", "Farben wie das System";
    theme_light: "Light theme", "Helle Farben";
    theme_dark: "Dark theme", "Dunkle Farben";
    palette_hint: "Type a command or the title of a chat", "Befehl oder Titel eines Chats eingeben";
    open_chat: "Open", "Öffnen";
    shortcuts_more: "Shift+Enter starts a new line. Up in an empty question edits the last one. Esc closes what is open, then stops the answer. In the conversation: Page Up, Page Down, Home, End.", "Umschalt+Eingabe beginnt eine neue Zeile. Pfeil hoch in einer leeren Frage bearbeitet die letzte. Esc schließt, was offen ist, und hält dann die Antwort an. Im Gespräch: Bild auf, Bild ab, Pos1, Ende.";

    // The list of conversations.
    conversations: "Chats", "Chats";
    new_chat_hint: "Start an empty chat with the same model", "Einen leeren Chat mit demselben Modell beginnen";
    search_hint: "Search", "Suchen";
    no_conversations: "Your chats will be listed here.", "Hier stehen später Ihre Chats.";
    chat_hover: "{title}\nMessages: {messages}. Right click for more.", "{title}\nNachrichten: {messages}. Rechtsklick für mehr.";
    folder: "Folder", "Ordner";
    no_folder: "No folder", "Kein Ordner";
    new_folder: "New folder…", "Neuer Ordner…";
    folder_name: "Folder's name", "Name des Ordners";
    chat_title: "Title of the chat", "Titel des Chats";
    hit: "{n} message", "{n} Nachricht";
    hits: "{n} messages", "{n} Nachrichten";
    hits_cut: "The newest {n} messages; there may be more", "Die neuesten {n} Nachrichten; es kann mehr geben";
    chat_deleted: "Chat deleted: {name}", "Chat gelöscht: {name}";
    message_deleted: "Deleted: {n} message, “{name}”", "Gelöscht: {n} Nachricht, „{name}“";
    messages_deleted: "Deleted: {n} messages, from “{name}” on", "Gelöscht: {n} Nachrichten, ab „{name}“";
    exported_one: "Exported {n} chat to {file}", "{n} Chat exportiert nach {file}";
    exported: "Exported {n} chats to {file}", "{n} Chats exportiert nach {file}";
    imported_one: "Imported {n} chat", "{n} Chat importiert";
    imported: "Imported {n} chats", "{n} Chats importiert";
    saving_fails: "Messages cannot be saved just now. Nothing is lost while the window is open: saving is tried again and again.", "Nachrichten können gerade nicht gespeichert werden. Solange das Fenster offen ist, geht nichts verloren: Das Speichern wird immer wieder versucht.";
    unsaved: "Conversations are NOT saved until this is settled and the program is started again:", "Gespräche werden NICHT gespeichert, bis das behoben und das Programm neu gestartet ist:";
    history_damaged: "The history of conversations was damaged ({why}). Messages that could be read and are here: {n}. The damaged file is kept as {file}.", "Der Verlauf der Gespräche war beschädigt ({why}). Nachrichten, die noch lesbar waren und hier sind: {n}. Die beschädigte Datei liegt als {file} daneben.";
    saving_works: "Everything is saved again.", "Alles ist wieder gespeichert.";

    // Messages.
    you: "You", "Sie";
    answer: "Answer", "Antwort";
    edited: "(edited)", "(bearbeitet)";
    edit_question_hint: "Change this question; the old one stays beside it", "Diese Frage ändern; die alte bleibt daneben";
    edit_answer_hint: "Change this answer; the old one stays beside it", "Diese Antwort ändern; die alte bleibt daneben";
    copy_question_hint: "Copy the question", "Frage kopieren";
    copy_markdown: "Copy Markdown", "Markdown kopieren";
    copy_markdown_hint: "Copy the answer as Markdown", "Antwort als Markdown kopieren";
    delete_hint: "Delete this message and all that follow it", "Diese Nachricht und alle folgenden löschen";
    again: "Again", "Noch einmal";
    again_hint: "Another answer to the same question, beside this one", "Eine andere Antwort auf dieselbe Frage, neben dieser";
    go_on: "Go on", "Weiter";
    previous_version: "Previous version", "Vorige Fassung";
    next_version: "Next version", "Nächste Fassung";
    empty_answer: "(The model ended its answer without a word.)", "(Das Modell hat ohne ein Wort geendet.)";
    broken_off: "Broken off by an error: {error}", "Durch einen Fehler abgebrochen: {error}";
    interrupted: "Interrupted before the end.", "Vor dem Ende unterbrochen.";
    editing_question: "Editing: sending makes a branch of its own", "Bearbeiten: Senden beginnt einen eigenen Zweig";
    editing_answer: "Editing the answer: it becomes a version of its own", "Antwort bearbeiten: Sie wird eine eigene Fassung";
    edited_message: "Edited message", "Bearbeitete Nachricht";
    send_edit_hint: "Ask the changed question", "Die geänderte Frage stellen";
    save_and_go_on: "Save and go on", "Speichern und weiter";
    save_and_go_on_hint: "Keep the changed answer and have the model go on from its end", "Die geänderte Antwort behalten und das Modell von ihrem Ende weiterschreiben lassen";
    save_edit_hint: "Keep the changed message without asking anything", "Die geänderte Nachricht behalten, ohne zu fragen";
    cancel_edit_hint: "Leave the message as it was", "Die Nachricht lassen, wie sie war";
    copy_coordinates: "Copy coordinates", "Koordinaten kopieren";
    copy_coordinates_hint: "Copy what was found, in pixels of the picture, as JSON", "Das Gefundene in Pixeln des Bildes als JSON kopieren";
    enlarge: "Enlarge", "Vergrößern";
    enlarge_hint: "See the picture in large, and as the model saw it", "Das Bild groß sehen, und wie das Modell es sah";
    enlarge_named: "Enlarge {name}", "{name} vergrößern";

    // The question.
    question: "Question", "Frage";
    question_hint: "Ask a question. Enter sends, Shift+Enter starts a new line.", "Stellen Sie eine Frage. Eingabe sendet, Umschalt+Eingabe beginnt eine neue Zeile.";
    question_hint_pictures: "What about these pictures? Enter sends, Shift+Enter starts a new line.", "Was ist mit diesen Bildern? Eingabe sendet, Umschalt+Eingabe beginnt eine neue Zeile.";
    question_hint_no_model: "You can type already; open a model to send.", "Sie können schon schreiben; zum Senden ein Modell öffnen.";
    add_pictures_hint: "PNG, JPEG, WebP, GIF, BMP, TIFF; or drop them, or paste one", "PNG, JPEG, WebP, GIF, BMP, TIFF; oder hierher ziehen, oder eines einfügen";
    show_prompt_short: "Prompt", "Prompt";
    show_prompt_hint: "Read the prompt as the model would get it now, and its tokens", "Den Prompt lesen, wie das Modell ihn jetzt bekäme, und seine Tokens";
    stop_short: "Stop", "Anhalten";
    stop_hint: "Stop the answer; what is there stays (Esc)", "Antwort anhalten; was da ist, bleibt (Esc)";
    open_model_first: "Open a model first.", "Erst ein Modell öffnen.";
    model_still_loading: "The model is still loading.", "Das Modell lädt noch.";
    chat_still_loading: "The chat is still loading.", "Der Chat lädt noch.";
    answer_under_way: "An answer is under way.", "Eine Antwort ist unterwegs.";
    type_or_add: "Type a question or add a picture.", "Eine Frage schreiben oder ein Bild hinzufügen.";
    reading: "reading…", "wird gelesen…";
    cannot_be_read: "cannot be read", "nicht lesbar";
    picture_drag_hint: "Click to enlarge, drag to reorder", "Klicken vergrößert, Ziehen ordnet um";
    move_left_named: "Move {name} to the left", "{name} nach links";
    move_right_named: "Move {name} to the right", "{name} nach rechts";
    replace_named: "Replace {name}", "{name} ersetzen";
    remove_named: "Remove {name}", "{name} entfernen";
    as_clip: "clip of {frames} frames", "Clip mit {frames} Bildern";
    as_clip_hint: "With the tick the model sees the frames with their times, without it the first frame alone", "Mit Haken sieht das Modell die Einzelbilder mit ihren Zeiten, ohne ihn nur das erste";
    pictures_cost: "The pictures will take {tokens} of {context} tokens.", "Die Bilder werden {tokens} von {context} Tokens nehmen.";
    pictures_cost_hint: "Image tokens of all pictures of this question; the range for each is in the settings", "Bildtokens aller Bilder dieser Frage; den Bereich für jedes gibt es in den Einstellungen";

    // How far it is, and what it cost.
    reading_pictures: "Reading pictures…", "Bilder werden gelesen…";
    making_prompt: "Making the prompt…", "Prompt entsteht…";
    looking: "Looking at picture {picture} of {pictures}: block {done} of {total}", "Sieht Bild {picture} von {pictures} an: Block {done} von {total}";
    prefilling: "Reading the prompt: {done} of {total} tokens", "Liest den Prompt: {done} von {total} Tokens";
    of_those_reused: ", {n} reused", ", {n} wiederverwendet";
    writing: "Writing: {tokens}", "Schreibt: {tokens}";
    silent_for: ", none for {time}", ", keines seit {time}";
    stopping: "Stopping…", "Hält an…";
    first_token_after: "first token after {time}", "erstes Token nach {time}";
    pictures_reused: "pictures reused: {n}", "Bilder wiederverwendet: {n}";
    ended_stop_string: "ended at a stop string", "an einer Stoppzeichenkette geendet";
    ended_limit: "ended at the token limit", "an der Tokengrenze geendet";
    ended_context: "ended: the context is full", "geendet: Der Kontext ist voll";
    stopped: "stopped", "angehalten";
    prompt_of: "prompt of {tokens}", "Prompt mit {tokens}";
    pictures_took: "pictures {time}", "Bilder {time}";
    seed_was: "seed {seed}", "Startwert {seed}";
    reused: "reused, 0 s", "wiederverwendet, 0 s";
    seen_at: "seen at {width}×{height}, {tokens}, {time}", "gesehen mit {width}×{height}, {tokens}, {time}";
    file_has: "file of {width}×{height} pixels", "Datei mit {width}×{height} Pixeln";
    grid_is: "grid of {frames}×{rows}×{columns} patches, {merged_rows}×{merged_columns} tokens a frame", "Raster von {frames}×{rows}×{columns} Patches, {merged_rows}×{merged_columns} Tokens je Bild";
    not_seen_yet: "The model has not seen it yet.", "Das Modell hat es noch nicht gesehen.";
    close_hint: "Close this message", "Diese Meldung schließen";
    picture_written: "Picture written to {file}", "Bild geschrieben nach {file}";

    // The prompt and the context.
    as_text: "Text", "Text";
    as_tokens: "Tokens", "Tokens";
    prompt_facts: "{tokens} tokens, {pictures} of them of pictures; {characters} characters", "{tokens} Tokens, davon {pictures} von Bildern; {characters} Zeichen";
    copy_prompt: "Copy the prompt", "Prompt kopieren";
    token_hover: "place {place}, id {id}: {text}", "Stelle {place}, Nummer {id}: {text}";
    context_used: "{used} / {context} tokens", "{used} / {context} Tokens";
    context_details: "Used: {used} of {context} tokens\n  pictures: {pictures}\n  text and answers: {rest}\nLeft: {left}\nMemory of the KV cache: {memory} used, {all} reserved", "Belegt: {used} von {context} Tokens\n  Bilder: {pictures}\n  Text und Antworten: {rest}\nFrei: {left}\nSpeicher des KV-Caches: {memory} belegt, {all} reserviert";

    // The model.
    no_model: "No model", "Kein Modell";
    inside_program: "inside this program", "in diesem Programm";
    model_details: "{place}\nrecipe {recipe}, loaded in {time}\n{memory} on {adapter}\n({weights} weights, {cache} KV cache for {tokens}, {working} working memory)", "{place}\nRezept {recipe}, geladen in {time}\n{memory} auf {adapter}\n({weights} Gewichte, {cache} KV-Cache für {tokens}, {working} Arbeitsspeicher)";
    cancel_load_hint: "Stop loading this model", "Das Laden dieses Modells abbrechen";
    step_opening: "Opening", "Öffnet";
    step_converting: "Converting", "Wandelt um";
    step_loading: "Loading", "Lädt";
    step_stopping: "Stopping", "Hält an";
    step_of: "{step} {done} of {total}", "{step} {done} von {total}";
    will_take: "It will take {all}: {weights} for weights, {cache} of KV cache for {tokens}, {working} of working memory", "Es braucht {all}: {weights} für Gewichte, {cache} KV-Cache für {tokens}, {working} Arbeitsspeicher";

    // The empty chat.
    open_model_to_begin: "Open a model to begin", "Zum Beginnen ein Modell öffnen";
    choose_folder_words: "Choose the folder of a Qwen3-VL model, or drop it here: one from the Hugging Face hub (it is converted once), or one that was converted.", "Wählen Sie den Ordner eines Qwen3-VL-Modells oder ziehen Sie ihn hierher: einen vom Hugging Face Hub (er wird einmal umgewandelt) oder einen schon umgewandelten.";
    choose_folder: "Choose a folder…", "Ordner wählen…";
    open_again: "Open {name} again", "{name} wieder öffnen";
    stays_here: "Everything stays on this computer.", "Alles bleibt auf diesem Rechner.";
    one_moment: "One moment", "Einen Moment";
    demo_on_its_way: "{name} is on its way.", "{name} ist unterwegs.";
    model_on_its_way: "The model in {folder} is on its way.", "Das Modell in {folder} ist unterwegs.";
    already_type: "You can already add pictures and type your question.", "Sie können schon Bilder hinzufügen und Ihre Frage schreiben.";
    ask_about_pictures: "Ask about pictures", "Fragen Sie nach Bildern";
    drop_anywhere: "Drop pictures anywhere in this window, paste one, or choose files.", "Ziehen Sie Bilder irgendwo in dieses Fenster, fügen Sie eines ein oder wählen Sie Dateien.";
    or_type: "Or just type a question, or begin with one of these:", "Oder schreiben Sie einfach eine Frage, oder beginnen Sie mit einem von diesen:";
    demo_words: "It looks at drawn shapes on a plain background: it names shapes and colours, counts them, says where they are, gives boxes, and reads a single letter or digit, in English. Of anything else it knows nothing.", "Es sieht gezeichnete Formen auf einfarbigem Grund an: Es nennt Formen und Farben, zählt sie, sagt, wo sie sind, gibt Rahmen an und liest einen einzelnen Buchstaben oder eine Ziffer, auf Englisch. Von allem anderen weiß es nichts.";
    begin_with: "Begin with one of these pictures, or draw your own and drop it here:", "Beginnen Sie mit einem dieser Bilder, oder zeichnen Sie selbst eines und ziehen Sie es hierher:";
    real_model_words: "For photographs, documents and all else you need the real model:", "Für Fotos, Dokumente und alles andere brauchen Sie das richtige Modell:";
    sample_hint: "{title}: add it to the question, and see what to ask", "{title}: zur Frage hinzufügen und sehen, was man fragen kann";
    sample_named: "Sample: {title}", "Beispiel: {title}";
    drop_pictures: "Drop pictures to add them,", "Bilder loslassen, um sie hinzuzufügen,";
    drop_model: "a model's folder to open it, exported chats to import them", "einen Modellordner, um ihn zu öffnen, exportierte Chats, um sie zu importieren";

    // Models: those of this machine, and those that can be had.
    models: "Models", "Modelle";
    models_and_more: "Models and downloads…", "Modelle und Downloads…";
    on_this_machine: "On this machine", "Auf diesem Rechner";
    to_download: "To download", "Zum Herunterladen";
    in_hub_cache: "{bytes} in the hub's cache", "{bytes} im Cache des Hubs";
    not_there: "It is not there any more.", "Es ist nicht mehr da.";
    source_gone: "converted from something that is not in this list", "umgewandelt aus etwas, das nicht in dieser Liste ist";
    open_now: "open", "geöffnet";
    converted_as: "converted: {recipe} ({bytes})", "umgewandelt: {recipe} ({bytes})";
    open_it: "Open", "Öffnen";
    open_named: "Open {name}", "{name} öffnen";
    open_as: "Open as {recipe}", "Als {recipe} öffnen";
    convert_as: "Convert to {recipe} and open", "In {recipe} umwandeln und öffnen";
    more_for: "More for {name}", "Mehr für {name}";
    verify_it: "Verify", "Prüfen";
    verify_hint: "Compute the checksums of its files again", "Die Prüfsummen seiner Dateien neu berechnen";
    look_for_newer: "Look for a newer version", "Nach einer neueren Fassung sehen";
    reveal: "Show its folder", "Seinen Ordner zeigen";
    rename_it: "Rename", "Umbenennen";
    model_name: "Name of the model", "Name des Modells";
    remove_it: "Remove", "Entfernen";
    remove_conversion: "Remove the conversion to {recipe}", "Die Umwandlung in {recipe} entfernen";
    remove_words: "Remove {name} from this disk? {bytes} become free. Other programs that use the same cache lose it too.", "{name} von dieser Platte entfernen? {bytes} werden frei. Andere Programme mit demselben Cache verlieren es auch.";
    remove_imported_words: "Take {name} off this list, and remove what was converted of it? Your own files stay.", "{name} aus dieser Liste nehmen und entfernen, was daraus umgewandelt wurde? Ihre eigenen Dateien bleiben.";
    import_folder: "Import a folder…", "Ordner importieren…";
    import_folder_hint: "A model's folder that is on this disk already; it stays where it is", "Der Ordner eines Modells, der schon auf dieser Platte ist; er bleibt, wo er ist";
    import_gguf: "Import a GGUF file…", "GGUF-Datei importieren…";
    import_gguf_hint: "The text model's file; its vision file (mmproj) is looked for beside it", "Die Datei des Textmodells; ihre Bilddatei (mmproj) wird daneben gesucht";
    import_model_title: "Import a model", "Modell importieren";
    download: "Download", "Herunterladen";
    download_named: "Download {name}", "{name} herunterladen";
    download_repository: "Download this repository", "Dieses Repository herunterladen";
    downloading: "Downloads: {percent} %", "Downloads: {percent} %";
    is_here: "Here", "Da";
    is_here_named: "{name} is on this machine", "{name} ist auf diesem Rechner";
    pause: "Pause", "Pause";
    resume: "Resume", "Fortsetzen";
    resume_named: "Resume the download of {name}", "Download von {name} fortsetzen";
    paused_words: "Paused. What has come is kept; it can go on another day.", "Angehalten. Was da ist, bleibt; es kann an einem anderen Tag weitergehen.";
    try_again: "Try again", "Noch einmal versuchen";
    trying_again: "Trying again: {error}", "Neuer Versuch: {error}";
    close_work_hint: "Take this off the list", "Das von der Liste nehmen";
    pulled_words: "It is there. Every byte that came was checked.", "Es ist da. Jedes Byte, das kam, wurde geprüft.";
    not_asked_words: "The hub could not be asked; this is what was here already: {error}", "Der Hub ließ sich nicht fragen; das war schon da: {error}";
    discard_left: "Left alone, because they are your own files: {files}", "Nicht angerührt, weil es Ihre eigenen Dateien sind: {files}";
    bytes_of: "{done} of {total}", "{done} von {total}";
    time_left: "{time} left", "noch {time}";
    checking: "checking", "wird geprüft";
    asking_hub: "Asking the hub…", "Fragt den Hub…";
    waiting_for_other: "Another program is downloading the same file: waiting for it", "Ein anderes Programm lädt dieselbe Datei: wartet darauf";
    verifying_model: "Verifying {name}", "Prüft {name}";
    removing_model: "Removing {name}", "Entfernt {name}";
    importing_model: "Importing {name}", "Importiert {name}";
    freed: "{bytes} are free again.", "{bytes} sind wieder frei.";
    verified_words: "{files} files, {bytes}: all are what they should be.", "{files} Dateien, {bytes}: Alle sind, wie sie sein sollen.";
    damaged_words: "Damaged: {files}", "Beschädigt: {files}";
    discard_damaged: "Remove the damaged files", "Die beschädigten Dateien entfernen";
    discard_damaged_hint: "Downloading again then fetches only these", "Erneutes Herunterladen holt dann nur diese";
    room_words: "A model may take {bytes} here (of {all}).", "Ein Modell darf hier {bytes} nehmen (von {all}).";
    room_unknown: "This device does not say how much memory it has.", "Dieses Gerät sagt nicht, wie viel Speicher es hat.";
    download_size: "download", "Download";
    needs_memory: "memory (int8)", "Speicher (int8)";
    licence: "licence", "Lizenz";
    recommended: "recommended for this device", "empfohlen für dieses Gerät";
    too_large: "too large for this device", "zu groß für dieses Gerät";
    show_all_models: "Show thinking models and GGUF files", "Denkende Modelle und GGUF-Dateien zeigen";
    show_all_models_hint: "Thinking models reason at length before they answer", "Denkende Modelle überlegen lange, bevor sie antworten";
    any_repository: "Any other repository:", "Jedes andere Repository:";
    hub_words: "From {hub}, into {cache}", "Von {hub}, nach {cache}";
    import_it: "Import", "Importieren";
    import_named: "Import {name}", "{name} importieren";
    find_ggufs: "Look for GGUF files of other programs", "GGUF-Dateien anderer Programme suchen";
    find_ggufs_hint: "In the folders of LM Studio, Ollama and llama.cpp; only their first bytes are read", "In den Ordnern von LM Studio, Ollama und llama.cpp; nur ihre ersten Bytes werden gelesen";
    found_no_ggufs: "There are no GGUF files of Qwen3-VL in the folders of LM Studio, Ollama and llama.cpp.", "In den Ordnern von LM Studio, Ollama und llama.cpp sind keine GGUF-Dateien von Qwen3-VL.";
    found_architecture: "Its architecture {name}, a mixture of experts, is not supported", "Seine Architektur {name}, eine Mischung von Experten, wird nicht unterstützt";
    found_format: "It has {name} tensors, which are not read: download the Q8_0, Q4_K_M or Q5_K_M file of the same model", "Es enthält {name}-Tensoren, die nicht gelesen werden: Laden Sie die Datei Q8_0, Q4_K_M oder Q5_K_M desselben Modells herunter";
    found_bad_vision: "Its vision file cannot be used, texts only: {error}", "Seine Bilddatei ist nicht brauchbar, nur Texte: {error}";
    found_vision_inside: "Its vision tower is in Ollama's own layout, which is not read: texts only", "Sein Bildteil liegt in Ollamas eigener Anordnung vor, die nicht gelesen wird: nur Texte";
    found_no_vision: "Its vision file is missing: texts only", "Seine Bilddatei fehlt: nur Texte";
    open_text_only: "Open it for texts only", "Nur für Texte öffnen";
    open_text_only_hint: "Without its vision file the model sees no pictures", "Ohne seine Bilddatei sieht das Modell keine Bilder";
    opened_text_only: "This model was opened for texts only: it sees no pictures.", "Dieses Modell ist nur für Texte geöffnet: Es sieht keine Bilder.";
    get_model: "Get {name}", "{name} holen";
    get_model_words: "{download} to download from {hub}, {memory} of memory when it runs; licence {licence}. It opens by itself once it is there.", "{download} herunterzuladen von {hub}, {memory} Speicher, wenn es läuft; Lizenz {licence}. Es öffnet sich von selbst, sobald es da ist.";

    // Settings.
    settings_of_chat: "These settings belong to this chat.", "Diese Einstellungen gehören zu diesem Chat.";
    instructions: "Instructions", "Anweisungen";
    instructions_hint: "System prompt, sent before the conversation", "System-Prompt, vor dem Gespräch gesendet";
    choosing_tokens: "Choosing tokens", "Wahl der Tokens";
    greedy: "Always the likeliest", "Immer das wahrscheinlichste";
    sample: "Sample", "Ziehen";
    temperature: "Temperature", "Temperatur";
    temperature_hint: "Above 1 more surprising, below 1 more predictable", "Über 1 überraschender, unter 1 vorhersehbarer";
    top_k_hint: "Only the k likeliest tokens; 0: all", "Nur die k wahrscheinlichsten Tokens; 0: alle";
    top_p_hint: "Only the likeliest tokens that together reach this probability; 1: all", "Nur die wahrscheinlichsten Tokens, die zusammen diese Wahrscheinlichkeit erreichen; 1: alle";
    min_p_hint: "Only tokens at least this likely, measured against the likeliest; 0: all", "Nur Tokens, die mindestens so wahrscheinlich sind, gemessen am wahrscheinlichsten; 0: alle";
    presence_penalty: "Presence penalty", "Präsenzstrafe";
    presence_penalty_hint: "Against endless repetition: makes tokens less likely that the answer already has; 0: off", "Gegen endlose Wiederholung: macht Tokens unwahrscheinlicher, die die Antwort schon hat; 0: aus";
    repetition_penalty: "Repetition penalty", "Wiederholungsstrafe";
    repetition_penalty_hint: "Above 1, makes tokens less likely that prompt or answer already have; it breaks tables and lists", "Über 1 macht sie Tokens unwahrscheinlicher, die Prompt oder Antwort schon haben; sie zerstört Tabellen und Listen";
    new_seed: "New seed for each answer", "Neuer Startwert für jede Antwort";
    seed: "Seed", "Startwert";
    presets: "Presets", "Voreinstellungen";
    models_own: "The model's own settings", "Die eigenen des Modells";
    models_own_hint: "Sample as the model's authors suggest, in its generation_config.json", "Ziehen, wie es die Autoren des Modells in generation_config.json vorschlagen";
    qwen_pictures: "Qwen's advice for pictures", "Qwens Rat für Bilder";
    qwen_text: "Qwen's advice for text", "Qwens Rat für Text";
    qwen_hint: "As recommended on the page of Qwen3-VL", "Wie auf der Seite von Qwen3-VL empfohlen";
    use_preset_hint: "Take these settings, instructions included", "Diese Einstellungen nehmen, mitsamt Anweisungen";
    delete_preset: "Delete the preset {name}", "Voreinstellung {name} löschen";
    preset_name: "Name for these settings", "Name für diese Einstellungen";
    save_preset_hint: "Keep the settings of this chat under this name", "Die Einstellungen dieses Chats unter diesem Namen behalten";
    limits: "Limits", "Grenzen";
    limit_tokens: "Tokens of an answer", "Tokens einer Antwort";
    limit_tokens_hint: "Tokens of an answer, at most", "Tokens einer Antwort, höchstens";
    image_tokens: "Image tokens of a picture", "Bildtokens eines Bildes";
    image_tokens_hint: "More tokens show the model more detail and take more time and context. Without the tick, the model's own limits hold. For boxes, Qwen advises 1024 to 2048.", "Mehr Tokens zeigen dem Modell mehr Einzelheiten und brauchen mehr Zeit und Kontext. Ohne Haken gelten die Grenzen des Modells. Für Rahmen rät Qwen zu 1024 bis 2048.";
    from: "from", "von";
    to: "to", "bis";
    fewest_tokens_hint: "Smaller pictures are enlarged to this many tokens", "Kleinere Bilder werden auf so viele Tokens vergrößert";
    most_tokens_hint: "Larger pictures are shrunk to this many tokens", "Größere Bilder werden auf so viele Tokens verkleinert";
    stop_strings: "Stop strings", "Stoppzeichenketten";
    stop_strings_hint: "One a line; \\n is a new line", "Eine je Zeile; \\n ist ein Zeilenumbruch";
    appearance: "Appearance", "Aussehen";
    theme_system_short: "As the system", "Wie das System";
    theme_light_short: "Light", "Hell";
    theme_dark_short: "Dark", "Dunkel";
    size: "Size", "Größe";
    smaller: "Smaller", "Kleiner";
    larger: "Larger", "Größer";
    show_markdown: "Show answers as Markdown", "Antworten als Markdown zeigen";
    show_markdown_hint: "Without the tick, answers are shown exactly as the model wrote them", "Ohne Haken stehen Antworten genau so da, wie das Modell sie schrieb";
    language: "Language", "Sprache";

    // Answers from a server elsewhere.
    answers_from: "Where answers come from", "Woher die Antworten kommen";
    this_machine: "This machine", "Dieser Rechner";
    adapter_and_memory: "Adapter and memory", "Adapter und Speicher";
    adapter: "Graphics adapter", "Grafikadapter";
    best_adapter: "The best one", "Der beste";
    adapter_hint: "What draws the window and runs the model. Choosing another opens the window anew; nothing is lost.", "Zeichnet das Fenster und rechnet das Modell. Ein anderer öffnet das Fenster neu; nichts geht verloren.";
    adapter_gone: "The adapter {wanted} cannot be used now. The window runs on {got}.", "Der Adapter {wanted} ist gerade nicht zu gebrauchen. Das Fenster läuft auf {got}.";
    kv_cache: "KV cache", "KV-Cache";
    kv_cache_hint: "How keys and values are stored: int8 takes half the memory of f16 and is a little less exact. Choosing loads the model anew.", "Wie Schlüssel und Werte gespeichert werden: int8 braucht halb so viel Speicher wie f16 und ist etwas ungenauer. Die Wahl lädt das Modell neu.";
    kv_usual: "as usual for the model", "wie beim Modell üblich";
    after_loss: "The graphics device was lost, and the window has opened on a new one. An answer that broke off can be gone on with.", "Das Grafikgerät ging verloren, und das Fenster hat sich auf einem neuen geöffnet. Eine abgebrochene Antwort lässt sich fortsetzen.";
    after_panic: "A fault in Ocelli itself closed the window, and it has opened anew; what was written is here. Please report it with Copy diagnostics: {why}", "Ein Fehler in Ocelli selbst hat das Fenster geschlossen, es hat sich neu geöffnet; was geschrieben war, ist da. Bitte melden, mit Diagnose kopieren: {why}";
    copy_diagnostics: "Copy diagnostics", "Diagnose kopieren";
    diagnostics_copied: "The diagnostics are in the clipboard: versions, adapter, model and the last errors, nothing of your chats.", "Die Diagnose ist in der Zwischenablage: Versionen, Adapter, Modell und die letzten Fehler, nichts aus Ihren Gesprächen.";
    show_logs: "Show the log's folder", "Ordner des Protokolls zeigen";
    answers_from_hint: "The model of this machine, or a server that you have added", "Das Modell dieses Rechners oder ein Server, den Sie hinzugefügt haben";
    server_model: "The server's model", "Modell des Servers";
    server_model_hint: "Opening this asks the server for its models", "Beim Öffnen wird der Server nach seinen Modellen gefragt";
    choose_server_model: "Choose a model…", "Modell wählen…";
    other_model: "The name of another model", "Name eines anderen Modells";
    listing_models: "Asking the server…", "Der Server wird gefragt…";
    no_models_listed: "The server lists no models.", "Der Server nennt keine Modelle.";
    list_models: "List models", "Modelle auflisten";
    models_listed: "It has {n} models: {names}", "Er hat {n} Modelle: {names}";
    servers: "Servers…", "Server…";
    servers_title: "Servers", "Server";
    servers_words: "A server that speaks OpenAI's chat completions (vLLM, llama.cpp, LM Studio, SGLang) can answer instead of this machine.", "Ein Server, der OpenAIs Chat Completions spricht (vLLM, llama.cpp, LM Studio, SGLang), kann statt dieses Rechners antworten.";
    servers_privacy: "Text and pictures of a chat go to the server that you choose for it, and to no other.", "Text und Bilder eines Chats gehen an den Server, den Sie für ihn wählen, und an keinen anderen.";
    server_not_applied: "Clips go as single pictures. The range of image tokens is not applied.", "Clips gehen als Einzelbilder. Der Bereich der Bildtokens gilt nicht.";
    left_to_server: "Leave it to the server how tokens are chosen", "Dem Server überlassen, wie Tokens gewählt werden";
    left_to_server_hint: "Without the tick, the settings below are sent", "Ohne Haken werden die Einstellungen unten gesendet";
    no_servers: "No server has been added yet.", "Noch kein Server hinzugefügt.";
    add_server: "Add a server", "Server hinzufügen";
    edit_server: "Change {name}", "{name} ändern";
    remove_server: "Remove {name}", "{name} entfernen";
    remove_server_sure: "Remove {name} and its key", "{name} und seinen Schlüssel entfernen";
    server_name: "Server's name", "Name des Servers";
    server_name_hint: "As you like to call it", "Wie Sie ihn nennen möchten";
    server_address: "Address", "Adresse";
    server_key: "Key", "Schlüssel";
    server_key_hint: "Kept in the system's keyring; empty: none, or the one that is there", "Liegt im Schlüsselbund des Systems; leer: keiner, oder der vorhandene";
    key_kept: "Its key is in the keyring.", "Sein Schlüssel liegt im Schlüsselbund.";
    key_this_run: "Its key is kept until the program ends only: {error}", "Sein Schlüssel bleibt nur bis zum Programmende: {error}";
    key_being_kept: "The key is being put into the keyring…", "Der Schlüssel kommt in den Schlüsselbund…";
    forget_key: "Forget the key", "Schlüssel vergessen";
    readable_on_the_way: "Without https, anyone on the way can read the chat and the key.", "Ohne https kann unterwegs jeder den Chat und den Schlüssel lesen.";
    server_unknown: "This chat's server is not there any more: choose in the settings where answers come from.", "Den Server dieses Chats gibt es nicht mehr: Wählen Sie in den Einstellungen, woher die Antworten kommen.";
    server_model_first: "Choose a model of the server in the settings first.", "Wählen Sie zuerst in den Einstellungen ein Modell des Servers.";
    unknown_server: "Unknown server {address}", "Unbekannter Server {address}";
    answers_come_from: "Answers come from {server} ({address}). Text and pictures of this chat go there.", "Die Antworten kommen von {server} ({address}). Text und Bilder dieses Chats gehen dorthin.";
    from_server: "{model} on {server}", "{model} auf {server}";
    waiting_elsewhere: "Waiting for the server", "Warten auf den Server";
    thinking_elsewhere: "The model is thinking", "Das Modell denkt nach";
    thoughts: "Thoughts", "Gedanken";
    coming_in: "Coming in, pieces: {n}", "Kommt an, Stücke: {n}";
    seen_from_here: "seen from here", "von hier gesehen";
    ended_server_limit: "ended at the server's limit", "an der Grenze des Servers geendet";
    took: "{time} in all", "{time} insgesamt";

    // The system's dialogs.
    open_model_title: "Open a model's folder", "Ordner eines Modells öffnen";
    add_pictures_title: "Add pictures", "Bilder hinzufügen";
    frames_title: "A folder of frames", "Ein Ordner mit Einzelbildern";
    replace_title: "Another picture instead", "Ein anderes Bild stattdessen";
    export_title: "Export chats", "Chats exportieren";
    import_title: "Import chats", "Chats importieren";
    annotated_title: "Write the picture with its boxes", "Bild mit seinen Rahmen schreiben";
    pictures_filter: "Pictures", "Bilder";
    all_files: "All files", "Alle Dateien";

    // A list of messages, answers, the large view of a picture, what was found in it.
    to_end: "To the end", "Zum Ende";
    copy_code: "Copy the code", "Den Code kopieren";
    code_copied: "Copied", "Kopiert";
    viewer_fit: "Fit", "Einpassen";
    viewer_fit_hint: "The whole picture (0)", "Das ganze Bild (0)";
    viewer_full: "100 %", "100 %";
    viewer_full_hint: "One pixel of the picture is one pixel of the screen (1)", "Ein Pixel des Bildes ist ein Pixel des Bildschirms (1)";
    viewer_zoom_in: "Zoom in (+)", "Vergrößern (+)";
    viewer_zoom_out: "Zoom out (-)", "Verkleinern (-)";
    viewer_original: "Original", "Original";
    viewer_seen: "As the model saw it", "Wie das Modell es sah";
    viewer_patches: "Patches", "Patches";
    viewer_patches_hint: "The grid of patches that the model cuts the picture into", "Das Raster der Stücke, in die das Modell das Bild schneidet";
    viewer_tokens: "Tokens", "Tokens";
    viewer_tokens_hint: "The grid of tokens: patches that the model puts together", "Das Raster der Tokens: Stücke, die das Modell zusammenfasst";
    viewer_found: "Boxes and points", "Rahmen und Punkte";
    viewer_close: "Close (Esc)", "Schließen (Esc)";
    viewer_picture: "Picture {name}, {zoom} %", "Bild {name}, {zoom} %";
    viewer_no_picture: "The picture is not there yet.", "Das Bild ist noch nicht da.";
    export_picture: "Save with boxes…", "Mit Rahmen speichern…";
    found_unnamed: "(no name)", "(ohne Namen)";
    found_box: "{x1}, {y1} to {x2}, {y2}", "{x1}, {y1} bis {x2}, {y2}";
    found_point: "{x}, {y}", "{x}, {y}";
    found_hint: "Pixels of the original picture, from its upper left corner", "Pixel des Originalbildes, von seiner linken oberen Ecke";

    // What every token cost.
    costs: "What every token cost", "Was jedes Token gekostet hat";
    costs_of_answer: "Tokens", "Tokens";
    costs_of_answer_hint: "What each token of this answer cost, and what it was chosen from", "Was jedes Token dieser Antwort gekostet hat und woraus es gewählt wurde";
    costs_of_row: "What each token cost, the columns beside each other", "Was jedes Token gekostet hat, die Spalten nebeneinander";
    costs_of_row_named: "Row {n}: what every token cost", "Zeile {n}: was jedes Token gekostet hat";
    no_timestamps: "This adapter has no timestamps: steps are timed from submitting to reading", "Dieser Adapter hat keine Zeitstempel: Schritte zählen vom Abschicken bis zum Lesen";
    only_arrivals: "Of a server only arrivals are known, as seen from here", "Von einem Server ist nur bekannt, wann etwas hier ankam";
    no_costs_yet: "Ask something: what its tokens cost is seen here while they come", "Fragen Sie etwas: Was seine Tokens kosten, ist hier zu sehen, während sie kommen";
    no_costs: "Nothing is known of what this answer cost", "Was diese Antwort gekostet hat, ist nicht bekannt";
    another_chat: "An answer of another chat", "Eine Antwort eines anderen Chats";
    page_timeline: "Timeline", "Zeitachse";
    page_plots: "Plots", "Diagramme";
    page_inside: "Inside", "Innen";
    page_kernels: "Kernels", "Kernel";
    measure: "Measure the bandwidth", "Bandbreite messen";
    measure_hint: "Measures what the device can do, for a second or two: then the floor below which no token can be is drawn", "Misst ein, zwei Sekunden lang, was das Gerät kann: Dann ist die Grenze zu sehen, unter der kein Token sein kann";
    profile_mode: "Profile mode", "Profilmodus";
    profile_slows: "Each kernel is timed on its own, which slows answers down", "Jeder Kernel wird einzeln gemessen, das bremst Antworten";
    profile_switching: "Measuring what the device can do…", "Misst, was das Gerät kann …";
    profile_off: "Times each kernel on its own; answers are slower meanwhile and say the same", "Misst jeden Kernel einzeln; Antworten sind solange langsamer und sagen dasselbe";
    profile_none: "Switch profile mode on and ask something", "Schalten Sie den Profilmodus ein und fragen Sie etwas";
    profile_ask: "Ask something: its kernels are listed here", "Fragen Sie etwas: Seine Kernel stehen dann hier";
    profile_part: "Part", "Teil";
    profile_by: "Put together by", "Zusammengefasst nach";
    by_kind: "By kind", "Nach Art";
    by_kernel: "By kernel", "Nach Kernel";
    by_layer: "By layer", "Nach Schicht";
    profile_sums: "{steps} steps, {whole} from begin to end: {kernels} in kernels ({share} %), {gaps} between them", "{steps} Schritte, {whole} von Anfang bis Ende: {kernels} in Kerneln ({share} %), {gaps} dazwischen";
    profile_what: "What", "Was";
    profile_time: "Time", "Zeit";
    profile_count: "Count", "Anzahl";
    profile_roof: "Of the roof", "Vom Dach";
    profile_bound: "Bound by", "Begrenzt durch";
    profile_sort: "Sort by this", "Danach sortieren";
    outside_layers: "Outside of layers", "Außerhalb von Schichten";
    bound_memory: "memory", "Speicher";
    bound_compute: "compute", "Rechnen";
    roofline_named: "Roof: {peak} GFLOP/s, {bandwidth} GB/s", "Dach: {peak} GFLOP/s, {bandwidth} GB/s";
    axis_intensity: "operations a byte", "Operationen pro Byte";
    inside_choose: "Choose a token: click it in the coloured answer or in the timeline", "Wählen Sie ein Token: mit einem Klick in der gefärbten Antwort oder in der Zeitachse";
    inside_running: "Running its step again…", "Sein Schritt läuft noch einmal …";
    inside_note: "What the step that chose this token attended to", "Worauf der Schritt achtete, der dieses Token wählte";
    inside_hint: "The step of the token before it, run again: attention over everything before, as shares of one", "Der Schritt des Tokens davor, noch einmal ausgeführt: Aufmerksamkeit über alles davor, als Anteile von eins";
    layer: "Layer", "Schicht";
    head: "Head", "Kopf";
    all_layers: "All layers", "Alle Schichten";
    all_heads: "All heads", "Alle Köpfe";
    picture_attention: "Picture {n}: {share} of its attention", "Bild {n}: {share} seiner Aufmerksamkeit";
    text_attention: "Text: {share} of its attention", "Text: {share} seiner Aufmerksamkeit";
    lens: "What each layer would have said", "Was jede Schicht gesagt hätte";
    lens_hint: "The logit lens: the model's last norm and head on each layer's output; probability and rank are those of the chosen token", "Die Logit-Linse: letzte Norm und Kopf des Modells auf der Ausgabe jeder Schicht; Wahrscheinlichkeit und Rang sind die des gewählten Tokens";
    lens_top: "Likeliest", "Wahrscheinlichste";
    colour_by: "Colour tokens by", "Tokens färben nach";
    colour_none: "No colours", "Keine Farben";
    legend_named: "Legend, from unremarkable to remarkable: {values}", "Legende, von unauffällig bis auffällig: {values}";
    tokens_named: "{n} tokens of the answer; arrow keys step through them", "{n} Tokens der Antwort; Pfeiltasten gehen sie durch";
    timeline_named: "Timeline of {n} tokens, token {token} chosen; arrow keys step through tokens, W and S zoom, A and D move", "Zeitachse von {n} Tokens, Token {token} gewählt; Pfeiltasten gehen die Tokens durch, W und S vergrößern, A und D verschieben";
    whole_run: "Whole session", "Ganze Sitzung";
    whole_run_hint: "All answers since the program was started", "Alle Antworten seit dem Start des Programms";
    fit: "Fit", "Einpassen";
    fit_hint: "Show all of it (F, or a double click)", "Alles zeigen (F oder Doppelklick)";
    plot_which: "Plot", "Diagramm";
    plot_latency: "Latency along the context", "Wartezeit entlang des Kontexts";
    plot_histogram: "Histogram of latencies", "Häufigkeit der Wartezeiten";
    plot_rate: "Tokens a second", "Tokens pro Sekunde";
    plot_parts: "Where the time went", "Wohin die Zeit ging";
    beside: "Compare with another answer", "Mit einer anderen Antwort vergleichen";
    beside_none: "Nothing beside it", "Nichts daneben";
    bandwidth_floor: "bandwidth floor", "Grenze der Bandbreite";
    axis_context: "tokens in the context", "Tokens im Kontext";
    axis_tokens: "tokens", "Tokens";
    axis_seconds: "seconds since the question", "Sekunden seit der Frage";
    part_prompt: "Making the prompt", "Prompt herstellen";
    part_gaps: "Gaps and waiting", "Lücken und Warten";
    parts_note: "Each moment belongs to one part: to what the device did, or else to what was waited for. The parts add up to the time from the question to the end.", "Jeder Augenblick gehört zu einem Teil: zu dem, was das Gerät tat, sonst zu dem, worauf gewartet wurde. Die Teile ergeben die Zeit von der Frage bis zum Ende.";
    export_costs: "Export", "Exportieren";
    export_trace: "Trace for Perfetto or Chrome…", "Trace für Perfetto oder Chrome …";
    export_csv: "Table (CSV)…", "Tabelle (CSV) …";
    export_json_lines: "JSON lines…", "JSON-Zeilen …";
    export_svg: "Plot (SVG)…", "Diagramm (SVG) …";
    export_panel: "This panel as a picture (PNG)…", "Dieser Bereich als Bild (PNG) …";
    costs_written: "What it cost is in {file}", "Was es gekostet hat, steht in {file}";
    figures_answer: "Answer", "Antwort";
    figures_selection: "Selection", "Auswahl";
    figures_line: "{n} tokens, {rate} tok/s, median {median}, p95 {p95}, p99 {p99}, longest {most}, together {total}", "{n} Tokens, {rate} tok/s, Median {median}, p95 {p95}, p99 {p99}, längste {most}, zusammen {total}";
    figures_sure: "; mean probability {p}, perplexity {perplexity}", "; mittlere Wahrscheinlichkeit {p}, Perplexität {perplexity}";
    latency: "Latency", "Wartezeit";
    probability: "Probability", "Wahrscheinlichkeit";
    entropy: "Entropy", "Entropie";
    rank: "Rank", "Rang";
    click_for_more: "Click for more", "Klicken für mehr";
    token_place: "token {n}", "Token {n}";
    token_id: "Id", "Id";
    token_bytes: "Bytes", "Bytes";
    batch: "Sessions in its step", "Sitzungen in seinem Schritt";
    context_pages: "Context (pages)", "Kontext (Seiten)";
    moved: "Moved", "Bewegt";
    origin: "Origin", "Herkunft";
    chosen_by_you: "Chosen by you", "Von Ihnen gewählt";
    taken_over: "Taken over from the answer before", "Aus der Antwort davor übernommen";
    flag_first: "Came with the last piece of the prompt", "Kam mit dem letzten Stück des Prompts";
    flag_drafted: "Guessed ahead, and found right", "Vorausgeraten und für richtig befunden";
    flag_page: "A new page of the cache", "Eine neue Seite des Zwischenspeichers";
    flag_compiled: "After kernels were compiled", "Nachdem Kernel übersetzt wurden";
    flag_interrupted: "Other work ran before it", "Davor lief andere Arbeit";
    alternatives: "Alternatives", "Alternativen";
    alternatives_hint: "A click answers anew from here, with that token", "Ein Klick antwortet von hier an neu, mit diesem Token";
    go_on_with: "Answer anew from here with “{token}”", "Von hier an neu antworten mit „{token}“";
    chosen_token: "The token that was chosen", "Das gewählte Token";
    stage_recording: "Recording", "Aufzeichnen";
    stage_queue: "Queue", "Warteschlange";
    stage_device: "Device", "Gerät";
    stage_sampling: "Sampling", "Auswahl";
    stage_readback: "Readback", "Rücklesen";
    stage_text: "To text", "Zu Text";
    stage_window: "To the screen", "Auf den Schirm";
    lane_frames: "Window", "Fenster";
    lane_vision: "Vision", "Sehen";
    lane_prefill: "Prefill", "Prefill";
    lane_decode: "Decode", "Decode";
    lane_stalls: "Stalls", "Stockungen";
    chunk_of: "{n} tokens of the prompt", "{n} Tokens des Prompts";
    picture_number: "Picture {n}", "Bild {n}";
    stall_details: "Token {token} took {time}; usual there is {usual}", "Token {token} brauchte {time}; üblich ist dort {usual}";
    cause_compiling: "Kernels were compiled", "Kernel wurden übersetzt";
    cause_other_prompt: "Another prompt or a picture ran on the device", "Ein anderer Prompt oder ein Bild lief auf dem Gerät";
    cause_batch: "More sessions shared the step", "Mehr Sitzungen teilten sich den Schritt";
    cause_window: "The window drew a long frame", "Das Fenster zeichnete lange";
    cause_page: "The cache grew by a page", "Der Zwischenspeicher wuchs um eine Seite";
    cause_slower: "The device has been slower from here on: heat, or saving power", "Das Gerät ist von hier an langsamer: Wärme oder Stromsparen";
    cause_unknown: "Why is not known", "Warum, ist nicht bekannt";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_by_name_and_other_braces_stay() {
        assert_eq!(fill("{done} of {total}", &[("total", &5), ("done", &"two")]), "two of 5");
        assert_eq!(fill("{x} {", &[("y", &1)]), "{x} {");
    }

    #[test]
    fn both_languages_say_something_and_name_the_same_values() {
        let names = |text: &str| {
            let mut names: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
                .collect();
            names.sort();
            names
        };
        for (name, english, german) in ALL {
            assert!(!english.trim().is_empty() && !german.trim().is_empty(), "{name}");
            assert_eq!(names(english), names(german), "{name}");
        }
    }
}
