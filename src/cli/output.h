#pragma once

#include <string_view>

namespace switchyard::cli {

/// Thrown when the reader of standard output has gone: the command ends without a word.
struct ClosedPipe {};

/// Writes data to standard output, at once.
/// Throws ClosedPipe when nobody reads it, Error(io) when it cannot be written.
void print(std::string_view text);

/// Writes a line for a person to standard error; a failure to do so is nobody's concern.
void message(std::string_view line);

/// Makes descriptors 0 to 2 point somewhere, so that a file opened later never takes the place of a
/// standard stream that was closed, and turns SIGPIPE into an error of the write.
void prepare_streams();

}  // namespace switchyard::cli
