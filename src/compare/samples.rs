//! Room `compare`: the sample pictures in this program, which a comparison names `sample:NAME`.

macro_rules! embedded {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../assets/pictures/", $name)))
    };
}

/// All of them: name and file.
pub const PICTURES: [(&str, &[u8]); 5] = [
    embedded!("shapes.png"),
    embedded!("count.png"),
    embedded!("inside.png"),
    embedded!("letter.png"),
    embedded!("cross.png"),
];

/// The comparison that shows what comparisons are.
pub const EXAMPLE: &str = include_str!("../../assets/comparisons/picture-sizes.toml");

/// The file of a sample picture.
#[must_use]
pub fn picture(name: &str) -> Option<&'static [u8]> {
    PICTURES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}
