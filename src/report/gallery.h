#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/reading.h"

namespace switchyard {

/// The pictures that suit a target's records. Points refer to the whole list of records. Where one
/// picture would hold too much it is split by a field that varies; at most kMostPictures come out,
/// and `notes` says what was left out.
struct Gallery {
  std::vector<Picture> pictures = {};
  std::vector<std::string> notes = {};
};

Gallery gallery_of(std::span<const Record> records, const TargetRecords& target);

}  // namespace switchyard
