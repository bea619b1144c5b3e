//! Assistants for code: `quantconnect:api/ai`.

use crate::contract::quantconnect::api::ai::{
    Error, ErrorReport, FilesAnswer, Host, Language, ListAnswer, SearchAnswer, SearchCriterion,
    SourceFile, TextAnswer, add_to_linker,
};

capability! {
    check_initialization_errors(language: Language, files: Vec<SourceFile>) -> TextAnswer;
    complete_code(language: Language, sentence: String, response_size_limit: Option<u32>) -> ListAnswer;
    enhance_error_message(language: Language, error: ErrorReport) -> TextAnswer;
    update_code_to_pep8(files: Vec<SourceFile>) -> FilesAnswer;
    check_syntax(language: Language, files: Vec<SourceFile>) -> ListAnswer;
    search_quantconnect(language: Language, criteria: Vec<SearchCriterion>) -> SearchAnswer;
}
