//! The notes of a chart. `helm template` leaves them out, so a template of ours in the chart says them: as a comment, which makes no
//! object of them for anybody.

/// The template, in the chart's folder.
pub(in super::super) const FILE: &str = "templates/flotilla-notes.yaml";
/// What stands before the notes, which are JSON text.
pub(in super::super) const MARK: &str = "# flotilla-notes: ";
/// Where a chart has them.
pub(super) const NOTES: &str = "templates/NOTES.txt";

/// The template's text.
pub(super) fn template() -> String {
    format!("{MARK}{{{{ include (print $.Template.BasePath \"/NOTES.txt\") . | toJson }}}}\n")
}
