// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace peregrine::text {

/// Rewrites a regular expression of Oniguruma's Ruby syntax, which tokenizer files are written in, as one
/// that PCRE2 (with UTF and UCP) reads with the same meaning: \s \w \b \h \v and their opposites, nested
/// character classes,
/// (?m), {,n} and the interval followed by '+', \uHHHH, long property names, \p{Greek} (the script, not its
/// extensions). Throws Error(kUnsupported) that quotes the pattern and names the construct where there is no
/// equivalent (class intersections, negated nested classes, \K and a few rarities). Errors of plain syntax
/// are left to PCRE2. `where` names the place of the pattern in messages.
std::string translate_regex(std::string_view pattern, std::string_view where);

}  // namespace peregrine::text
