//! Room `compare`: a comparison laid out: rows of values, cells in order, and each cell's fields with its values filled in. Cells
//! are made when they are asked for: a hundred thousand take no memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{Comparison, Fields, Pairing, Scalar};
use super::pictures::PictureFiles;
use super::variables::{check_name, fill};
use crate::bounded;
use crate::error::{Error, Result};
use crate::model::converted::hex;
use crate::model::recipe::Recipe;

/// Cells of a comparison, at most.
pub const MAX_CELLS: usize = 1_000_000;
/// Bytes and lines of a file of values, at most.
const MAX_CSV_BYTES: u64 = 64 << 20;
/// Columns of such a file, and values in all of it, at most; and how many a line may seem to have.
const MOST_NAMES: usize = 1000;
const MOST_VALUES: usize = 5_000_000;
const MOST_DELIMITERS: usize = 100_000;
const DOING: &str = "laying out the comparison";

/// Where a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Its row: one set of values.
    pub row: usize,
    /// Which of the repeats, from 0.
    pub repeat: usize,
    /// Its column.
    pub column: usize,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A model on this machine; `None`: the one that is loaded.
    Model(Option<String>, Option<Recipe>),
    /// A server's model.
    Server(String, String),
}

impl Target {
    fn of(fields: &Fields) -> Self {
        match (&fields.server, &fields.server_model) {
            (Some(server), Some(model)) => Self::Server(server.clone(), model.clone()),
            _ => {
                let model = fields.model.clone().filter(|name| !name.is_empty());
                Self::Model(model, fields.recipe)
            }
        }
    }

    /// The recipe asked for.
    #[must_use]
    pub fn recipe(&self) -> Option<Recipe> {
        match self {
            Self::Model(_, recipe) => *recipe,
            Self::Server(..) => None,
        }
    }
}

/// A column: its name, what it asks, and who answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// Its own fields over the shared ones; variables are not filled in.
    pub fields: Fields,
    /// Who answers.
    pub target: Target,
}

/// One thing to ask.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Where it stands.
    pub place: Place,
    /// Its values.
    pub values: Vec<(String, String)>,
    /// What it asks, values filled in.
    pub fields: Fields,
    /// What tells it from every other, and stays the same when the file changes elsewhere: 32 hexadecimal digits.
    pub key: String,
}

/// A comparison laid out.
#[derive(Debug)]
pub struct Plan {
    /// What is laid out.
    pub comparison: Comparison,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its pictures.
    pub pictures: Arc<PictureFiles>,
    /// Names, and values of each row of the file of values.
    csv: Option<(Vec<String>, Vec<Vec<String>>)>,
    /// Values as text, by variable in order of the file.
    values: Vec<(String, Vec<String>)>,
    rows: usize,
}

impl Plan {
    /// Lays it out; relative names of files start at `base`.
    ///
    /// # Errors
    /// It cannot be run, its file of values cannot be read, or it has more cells than anyone waits for.
    pub fn new(comparison: Comparison, base: &Path) -> Result<Self> {
        Self::with_pictures(comparison, Arc::new(PictureFiles::new(base)))
    }

    /// The same with pictures that may be in memory.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_pictures(comparison: Comparison, pictures: Arc<PictureFiles>) -> Result<Self> {
        comparison.check()?;
        let names = comparison.column_names();
        let columns: Vec<Column> = names
            .into_iter()
            .zip(&comparison.columns)
            .map(|(name, own)| {
                let fields = Fields { name: None, ..own.over(&comparison.shared) };
                Column { name, target: Target::of(&fields), fields }
            })
            .collect();
        let csv = match &comparison.matrix.csv {
            Some(path) => Some(read_csv(&pictures.base().join(path))?),
            None => None,
        };
        let text = |values: &Vec<Scalar>| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        let values: Vec<(String, Vec<String>)> =
            comparison.variables.iter().map(|(name, values)| (name.clone(), text(values))).collect();
        if let Some((names, _)) = &csv
            && let Some(name) = names.iter().find(|name| values.iter().any(|(known, _)| known == *name))
        {
            let why = format!("the variable {name} has values under [variables] and in the file of values");
            return Err(Error::new(DOING, why).quoting().help("call one of them otherwise"));
        }
        let rows = count_rows(&values, comparison.matrix.pairing, csv.as_ref().map(|(_, rows)| rows.len()))?;
        let cells = rows.checked_mul(columns.len()).and_then(|n| n.checked_mul(comparison.matrix.repeats));
        if cells.is_none_or(|cells| cells > MAX_CELLS) {
            let why = format!(
                "{rows} rows of {} columns, {} times each, are more than {MAX_CELLS} cells",
                columns.len(),
                comparison.matrix.repeats
            );
            return Err(Error::new(DOING, why).help("give variables fewer values, or pair them"));
        }
        Ok(Self { comparison, columns, pictures, csv, values, rows })
    }

    /// Rows: sets of values.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Times each cell runs.
    #[must_use]
    pub fn repeats(&self) -> usize {
        self.comparison.matrix.repeats
    }

    /// Cells in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows * self.repeats() * self.columns.len()
    }

    /// Never: a comparison has at least one cell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of the cell of this number: rows come one after the other, so that what has most in common runs together.
    #[must_use]
    pub fn place(&self, number: usize) -> Place {
        let (columns, repeats) = (self.columns.len(), self.repeats());
        Place {
            row: number / (columns * repeats),
            repeat: number / columns % repeats,
            column: number % columns,
        }
    }

    /// The number of the cell at a place.
    #[must_use]
    pub fn number(&self, place: Place) -> usize {
        (place.row * self.repeats() + place.repeat) * self.columns.len() + place.column
    }

    /// The names of all variables, in the order of [`Plan::values`].
    #[must_use]
    pub fn variable_names(&self) -> Vec<&str> {
        let csv = self.csv.iter().flat_map(|(names, _)| names.iter().map(String::as_str));
        self.values.iter().map(|(name, _)| name.as_str()).chain(csv).collect()
    }

    /// The values of a row, by name; a value may hold variables.
    #[must_use]
    pub fn values(&self, row: usize) -> Vec<(&str, &str)> {
        // The last variable changes fastest, as in nested loops.
        let csv_rows = self.csv.as_ref().map_or(1, |(_, rows)| rows.len().max(1));
        let (mut rest, csv_row) = (row / csv_rows, row % csv_rows);
        let mut values: Vec<(&str, &str)> = Vec::new();
        match self.comparison.matrix.pairing {
            Pairing::Paired => {
                values.extend(self.values.iter().map(|(name, of)| (name.as_str(), of[rest].as_str())));
            }
            Pairing::Cartesian => {
                for (name, of) in self.values.iter().rev() {
                    values.push((name, &of[rest % of.len()]));
                    rest /= of.len();
                }
                values.reverse();
            }
        }
        if let Some((names, rows)) = &self.csv {
            values.extend(names.iter().map(String::as_str).zip(rows[csv_row].iter().map(String::as_str)));
        }
        values
    }

    /// A row in words: its values.
    #[must_use]
    pub fn row_label(&self, row: usize) -> String {
        self.values(row)
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The cell of this number.
    ///
    /// # Errors
    /// A variable is not known or holds itself, or a picture cannot be read.
    pub fn cell(&self, number: usize) -> Result<Cell> {
        let place = self.place(number);
        let column = &self.columns[place.column];
        let values = self.values(place.row);
        let known: HashMap<&str, &str> = values.iter().copied().collect();
        let fields = filled(&column.fields, &known)
            .map_err(|e| e.at(format!("row {} of column {}", place.row + 1, column.name)))?;
        let mut fields = fields;
        fields.seed = Some(fields.seed.unwrap_or(0).wrapping_add(place.repeat as u64));
        let mut hash = Sha256::new();
        let json = serde_json::to_vec(&fields).map_err(|e| Error::new(DOING, e))?;
        hash.update((json.len() as u64).to_le_bytes());
        hash.update(&json);
        hash.update(column.name.as_bytes());
        let before = fields.before.iter().flatten().flat_map(|turn| &turn.pictures);
        for picture in before.chain(fields.pictures.iter().flatten()) {
            hash.update(self.pictures.hash(picture)?);
        }
        // Two rows may ask the same; they are two cells all the same.
        for (name, value) in &values {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((value.len() as u64).to_le_bytes());
            hash.update(value.as_bytes());
        }
        hash.update((place.repeat as u64).to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let key = hex(&digest[..16]);
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Cell { place, values, fields, key })
    }

    /// Who answers, each once, in order of the columns.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for column in &self.columns {
            if !targets.contains(&column.target) {
                targets.push(column.target.clone());
            }
        }
        targets
    }
}

/// Rows that the values of variables make.
fn count_rows(values: &[(String, Vec<String>)], pairing: Pairing, csv_rows: Option<usize>) -> Result<usize> {
    let of_values = match pairing {
        Pairing::Cartesian => values.iter().try_fold(1_usize, |n, (_, of)| n.checked_mul(of.len())),
        Pairing::Paired => {
            let first = values.first().map_or(1, |(_, of)| of.len());
            if let Some((name, of)) = values.iter().find(|(_, of)| of.len() != first) {
                let why = format!(
                    "values are paired, and {name} has {} of them where {} has {first}",
                    of.len(),
                    values[0].0
                );
                return Err(Error::new(DOING, why)
                    .quoting()
                    .help("give each variable as many, or write pairing = \"cartesian\""));
            }
            Some(first)
        }
    };
    of_values
        .and_then(|n| n.checked_mul(csv_rows.unwrap_or(1)))
        .ok_or_else(|| Error::new(DOING, "its variables have too many values").help("pair them"))
}

/// The names and rows of a file of values.
fn read_csv(path: &Path) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let doing = "reading the file of values";
    let fail = |e: &dyn std::fmt::Display| Error::new(doing, e).at_path(path);
    let text = bounded::file(path, MAX_CSV_BYTES)
        .and_then(bounded::text)
        .map_err(|e| fail(&e).help("it must be CSV in UTF-8"))?;
    parse_csv(&text).map_err(|e| e.at_path(path))
}

/// The names and rows of a text of values, as it is typed, pasted or in a file.
///
/// # Errors
/// It has no names, or a line with more or fewer values than names.
pub fn parse_csv(text: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let fail = |why: &dyn std::fmt::Display| {
        Error::new("reading the file of values", why)
            .quoting()
            .help("its first line names variables, each other line has a value of each, with commas between")
    };
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    let delimiter =
        [b'\t', b';'].into_iter().find(|d| first.contains(char::from(*d)) && !first.contains(','));
    let delimiter = delimiter.unwrap_or(b',');
    // Before names and values are made of it: commas alone, by the million, would be a gigabyte of empty ones.
    let widest = text.lines().map(|line| line.bytes().filter(|byte| *byte == delimiter).count()).max();
    if widest.unwrap_or(0) > MOST_DELIMITERS {
        return Err(fail(&format!("a line of it has more than {MOST_DELIMITERS} values")));
    }
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let names: Vec<String> =
        reader.headers().map_err(|e| fail(&e))?.iter().map(|name| name.trim().to_owned()).collect();
    if names.is_empty() {
        return Err(fail(&"it is empty"));
    }
    if names.len() > MOST_NAMES {
        return Err(fail(&format!("it has more than {MOST_NAMES} columns")));
    }
    for (n, name) in names.iter().enumerate() {
        check_name(name)?;
        if names[..n].contains(name) {
            return Err(fail(&format!("two of its columns are called {name}")));
        }
    }
    let (mut rows, mut values) = (Vec::new(), 0);
    for record in reader.records() {
        rows.push(record.map_err(|e| fail(&e))?.iter().map(str::to_owned).collect());
        values += names.len();
        if values > MOST_VALUES {
            return Err(fail(&format!("it has more than {MOST_VALUES} values")));
        }
        if rows.len() > MAX_CELLS {
            return Err(fail(&format!("it has more than {MAX_CELLS} lines")));
        }
    }
    if rows.is_empty() {
        return Err(fail(&"it has names and no values"));
    }
    Ok((names, rows))
}

/// Fields with their variables filled in.
fn filled(fields: &Fields, values: &HashMap<&str, &str>) -> Result<Fields> {
    let text = |field: &Option<String>| field.as_ref().map(|text| fill(text, values)).transpose();
    let list = |texts: &[String]| texts.iter().map(|text| fill(text, values)).collect::<Result<Vec<_>>>();
    let mut out = fields.clone();
    out.prompt = text(&fields.prompt)?;
    out.system = text(&fields.system)?;
    out.answer_start = text(&fields.answer_start)?;
    out.reference = text(&fields.reference)?;
    out.pictures = fields.pictures.as_deref().map(list).transpose()?;
    for turn in out.before.iter_mut().flatten() {
        turn.text = fill(&turn.text, values)?;
        turn.pictures = list(&turn.pictures)?;
    }
    if let Some(Scalar::Text(size)) = &fields.picture_size {
        out.picture_size = Some(Scalar::from(fill(size, values)?));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan> {
        Plan::new(Comparison::parse(text)?, Path::new(""))
    }

    const TWO: &str = "[shared]\nprompt = \"{{a}} {{b}}\"\n[[columns]]\n[[columns]]\nname = \"x\"\n";

    #[test]
    fn cartesian_values_are_nested_loops_and_columns_stand_next_to_each_other() {
        let p =
            plan(&format!("{TWO}[variables]\na = [1, 2]\nb = [\"x\", \"y\", \"z\"]\n[matrix]\nrepeats = 2"))
                .unwrap();
        assert_eq!((p.rows(), p.len()), (6, 24));
        let prompts: Vec<String> =
            (0..24).step_by(4).map(|n| p.cell(n).unwrap().fields.prompt.unwrap()).collect();
        assert_eq!(prompts, ["1 x", "1 y", "1 z", "2 x", "2 y", "2 z"]);
        for n in 0..24 {
            assert_eq!(p.number(p.place(n)), n);
        }
        let seeds: Vec<Option<u64>> = (0..4).map(|n| p.cell(n).unwrap().fields.seed).collect();
        assert_eq!(seeds, [Some(0), Some(0), Some(1), Some(1)]);
        let keys: std::collections::HashSet<String> = (0..24).map(|n| p.cell(n).unwrap().key).collect();
        assert_eq!(keys.len(), 24, "each cell is told from every other");
    }

    #[test]
    fn paired_values_go_together_and_must_be_as_many() {
        let p = plan(&format!("{TWO}[variables]\na = [1, 2]\nb = [3, 4]\n[matrix]\npairing = \"paired\""))
            .unwrap();
        assert_eq!((p.rows(), p.row_label(1).as_str()), (2, "a = 2, b = 4"));
        let error = plan(&format!("{TWO}[variables]\na = [1, 2]\nb = [3]\n[matrix]\npairing = \"paired\""))
            .unwrap_err();
        assert!(error.to_string().contains("b has 1 of them where a has 2"), "{error}");
    }

    #[test]
    fn a_file_of_values_goes_with_every_row_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("v.csv"), "b,c\n\"x, y\",1\nz,2\n").unwrap();
        let text = format!("{TWO}[variables]\na = [1, 2]\n[matrix]\ncsv = \"v.csv\"");
        let p = Plan::new(Comparison::parse(&text).unwrap(), folder.path()).unwrap();
        let labels: Vec<String> = (0..p.rows()).map(|row| p.row_label(row)).collect();
        assert_eq!(
            labels,
            [
                "a = 1, b = x, y, c = 1",
                "a = 1, b = z, c = 2",
                "a = 2, b = x, y, c = 1",
                "a = 2, b = z, c = 2"
            ]
        );
        for (text, words) in [
            ("", "it is empty"),
            ("a b\n1", "is no name of a variable"),
            ("a,a\n1,2", "are called a"),
            ("a,b\n1", "found record with 1 fields"),
            ("a,b\n", "no values"),
        ] {
            let error = parse_csv(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert_eq!(parse_csv("a;b\n1;2").unwrap().1, [["1", "2"]]);
        assert_eq!(parse_csv("\u{feff}a\tb\r\n1\t2\r\n").unwrap().0, ["a", "b"]);
    }

    #[test]
    fn a_key_stays_when_the_file_changes_elsewhere_and_changes_with_what_is_asked() {
        let one = "[shared]\nprompt = \"{{a}}\"\n[[columns]]\nname = \"x\"\n";
        let key = |text: &str| plan(text).unwrap().cell(0).unwrap().key;
        let usual = key(&format!("{one}[variables]\na = [1]"));
        assert_eq!(
            usual,
            key(&format!("title = \"t\"\n{one}[[columns]]\nname = \"y\"\n[variables]\na = [1, 2]"))
        );
        assert_ne!(usual, key(&format!("{one}max_tokens = 3\n[variables]\na = [1]")));
        assert_ne!(usual, key(&format!("{one}[variables]\na = [2]")));
        assert_ne!(usual, key(&format!("{one}[variables]\na = [1]\nunused = [1]")));
    }

    #[test]
    fn a_hundred_thousand_cells_are_laid_out_at_once_and_millions_are_refused() {
        let values = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "{TWO}[variables]\na = [{values}]\nb = [{}]",
            (0..50).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
        );
        let p = plan(&text).unwrap();
        assert_eq!(p.len(), 100_000);
        assert_eq!(p.cell(99_999).unwrap().fields.prompt.as_deref(), Some("999 49"));
        let error =
            plan(&format!("{TWO}[variables]\na = [{values}]\nb = [{values}]")).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 cells"), "{error}");
        let error = plan(&format!(
            "{TWO}[variables]\na = [{values}]\nb = [{values}]\n[matrix]\nrepeats = 9223372036854775807"
        ));
        assert!(error.unwrap_err().to_string().contains("cells"));
    }

    #[test]
    fn what_a_cell_lacks_is_said_with_its_place() {
        let p = plan("[shared]\nprompt = \"{{a}}\"\n[[columns]]\n").unwrap();
        let error = p.cell(0).unwrap_err().to_string();
        assert!(error.contains("no variable a") && error.contains("row 1 of column A"), "{error}");
        let p = plan("[shared]\nprompt = \"x\"\npictures = [\"gone.png\"]\n[[columns]]\n").unwrap();
        assert!(p.cell(0).unwrap_err().to_string().contains("gone.png"));
    }
}
